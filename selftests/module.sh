#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Loading, unloading and the parameters of umpsc.ko.
# shellcheck disable=SC2317 # ktap_run calls the tests
set -u
# shellcheck source=selftests/ktap_helpers.sh
. "$(dirname "$0")/ktap_helpers.sh"

NODE=/dev/umpsc
PARAMETERS=/sys/module/umpsc/parameters

# Begin a test with a module loaded in this way.
reload() {
	if module_loaded; then
		rmmod umpsc || fail "rmmod"
	fi
	module_load "$@" || fail "insmod $*"
}

# Nothing is left of the module.
nothing_left() {
	for path in /sys/module/umpsc /sys/class/umpsc /sys/devices/virtual/umpsc /dev/umpsc*; do
		[ ! -e "$path" ] || fail "$path is left"
	done
	grep umpsc /proc/devices /proc/modules && fail "left"
	for path in /sys/kernel/slab/*umpsc*; do
		[ ! -e "$path" ] || fail "$path is left"
	done
	return 0
}

unload() {
	if module_loaded; then
		rmmod umpsc || fail "rmmod"
	fi
	nothing_left
}

# rmmod fails, and changes nothing.
unload_refused() {
	refused rmmod umpsc
	module_loaded || fail "the module is gone"
	[ -c "$NODE" ] || fail "$NODE is gone"
}

# ---- What it is -----------------------------------------------------------

test_version() {
	reload
	[ -s /sys/module/umpsc/version ] || fail "no version"
	want=$(tr '\0' '\n' < "$MODULE" | sed -n 's/^srcversion=//p')
	[ -n "$want" ] || fail "$MODULE has no srcversion"
	equal "$(cat /sys/module/umpsc/srcversion)" "$want" "srcversion"
}

test_region_and_class() {
	reload
	major=$(awk '$2 == "umpsc" { print $1 }' /proc/devices)
	[ -n "$major" ] || fail "no region in /proc/devices"
	equal "$(cat /sys/class/umpsc/umpsc/dev)" "$major:0" "device number"
	equal "$(stat -c '%a %u %g %F' "$NODE")" "660 0 0 character special file" "$NODE"
	equal "$(stat -c %t "$NODE")" "$(printf %x "$major")" "its major"
}

# ---- Unloading ------------------------------------------------------------

test_unload_after_use() {
	reload channels=a,b:standing
	for node in "$NODE" "$NODE-a" "$NODE-b"; do
		echo x > "$node"
		equal "$(head -n 1 < "$node")" x "what came from $node"
	done
	# A receiver that goes discards, and leaves nothing that waits.
	echo x > "$NODE-a"
	: < "$NODE-a"
	unload
	reload
}

test_unload_busy_while_open() {
	reload channels=b:standing
	for node in "$NODE" "$NODE-b"; do
		exec 3> "$node"
		unload_refused
		exec 3>&- 3< "$node"
		unload_refused
		exec 3<&- 3<> "$node"
		unload_refused
		exec 3>&-
	done
	unload
	reload
}

test_unload_busy_with_private_handles() {
	need python3
	reload
	# Until its standard input ends it has handles of private channels only.
	mkfifo go
	python3 -c '
import fcntl, os, struct, sys
m = os.open("/dev/umpsc", os.O_RDWR)
args = bytearray(struct.pack("IIIIQQQii", 0, 0, 0, 0, 0, 0, 0, -1, -1))
fcntl.ioctl(m, 0xC0000000 | len(args) << 16 | 0xD501, args)
os.close(m)
open("ready", "w").close()
sys.stdin.read()' < go &
	exec 3> go
	until_true [ -e ready ] || fail "no private channel"
	unload_refused
	exec 3>&-
	wait $! || fail "python"
	until_true module_unused || fail "still in use"
	unload
	reload
}

# Messages that wait for a receiver are not to be lost.
test_unload_busy_with_messages() {
	reload channels=a,b:standing
	for node in "$NODE" "$NODE-a" "$NODE-b"; do
		echo one > "$node"
		echo two > "$node"
		unload_refused
		equal "$(head -n 1 < "$node")" one "what came from $node"
		# The ordinary node's receiver has discarded the other; the standing one's has not.
		case $node in
		*-b)
			unload_refused
			equal "$(head -n 1 < "$node")" two "what came from $node"
			;;
		esac
	done
	unload
	reload
}

test_unload_after_node_removed() {
	need python3
	reload channels=b:standing
	echo one > "$NODE-b"
	unload_refused
	python3 -c '
import fcntl, os, struct
m = os.open("/dev/umpsc", os.O_RDWR)
fcntl.ioctl(m, 0x4028D503, struct.pack("32sII", b"b", 0, 0))' || fail "REMOVE"
	[ ! -e "$NODE-b" ] || fail "$NODE-b is still there"
	unload
	reload
}

# A figure in sysfs that is open keeps nothing, and outlives everything as an error.
test_unload_with_figures_open() {
	reload channels=a
	echo x > "$NODE-a"
	exec 3< /sys/class/umpsc/umpsc-a/depth 4< /sys/class/umpsc/umpsc-a/sent
	equal "$(cat <&4)" 1 "messages sent"
	equal "$(cat "$NODE-a")" x "what came"
	unload
	refused cat <&3
	grep -q 'No such device' error || fail "$(cat error)"
	reload channels=a
	refused cat <&3
	equal "$(cat /sys/class/umpsc/umpsc-a/sent)" 0 "messages sent to the new node"
	exec 3<&- 4<&-
	reload
}

# Twenty times, with use; each channel has an id that none had before it.
test_twenty_reloads() {
	ids=
	for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
		reload channels=a,b:standing
		for node in "$NODE" "$NODE-a" "$NODE-b"; do
			exec 3> "$node"
			id=$(figure 3 channel)
			echo "$i" >&3
			exec 3>&-
			equal "$(head -n 1 < "$node")" "$i" "what came from $node"
			case " $ids " in
			*" $id "*) fail "channel id $id came twice" ;;
			esac
			[ "${id:-0}" -gt 0 ] || fail "channel id '$id'"
			ids="$ids $id"
		done
		unload
	done
	reload
}

# Whoever comes too late finds no node, or nothing behind it, and whoever came before is waited for.
test_reloads_while_others_open() {
	reload
	for _ in 1 2; do
		while [ ! -e enough ]; do
			# Not for writing: that might make a file.
			{ true; } 3< "$NODE"
		done 2> /dev/null &
	done
	unloads=0 refusals=0
	while [ "$unloads" -lt 10 ]; do
		if rmmod umpsc 2> /dev/null; then
			unloads=$((unloads + 1))
			module_load || fail "insmod after $unloads"
		else
			refusals=$((refusals + 1))
			[ "$refusals" -lt 3000 ] || fail "busy all the time"
		fi
	done
	: > enough
	wait
	echo "# unloaded $unloads times, refused $refusals times"
	unload
	reload
}

# ---- Parameters -----------------------------------------------------------

test_channels() {
	longest=abcdefghijklmnopqrstuvwxyz-_019
	reload "channels=log,jobs:standing,$longest,A"
	for name in log jobs "$longest" A; do
		[ -c "$NODE-$name" ] || fail "$NODE-$name is not there"
		exec 3> "$NODE-$name"
		equal "$(figure 3 node)" "umpsc-$name" "the node"
		case $name:$(figure 3 state) in
		jobs:*standing*) ;;
		jobs:* | *standing*) fail "$name is '$(figure 3 state)'" ;;
		esac
		exec 3>&-
	done
	equal "$(find /dev -name 'umpsc*' | wc -l)" 5 "nodes"
	equal "$(cat "$PARAMETERS/channels")" "log,jobs:standing,$longest,A" "the parameter"
	unload
	reload
	equal "$(find /dev -name 'umpsc*')" "$NODE" "nodes without the parameter"
}

test_many_channels() {
	names=$(seq 200 | sed 's/^/n/' | tr '\n' ,)
	reload "channels=${names%,}"
	equal "$(find /dev -name 'umpsc-n*' | wc -l)" 200 "nodes"
	echo x > "$NODE-n200"
	equal "$(cat "$NODE-n200")" x "what came"
	unload
	reload
}

# Whoever is told of a node can open it at once.
test_announced_nodes_can_be_opened() {
	need python3
	unload
	cat > listener.py <<-'END'
		import os, socket
		from socket import AF_NETLINK, SOCK_RAW
		NETLINK_KOBJECT_UEVENT, SO_RCVBUFFORCE = 15, 33
		told = socket.socket(AF_NETLINK, SOCK_RAW, NETLINK_KOBJECT_UEVENT)
		told.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 22)
		told.bind((0, 1))
		told.settimeout(60)
		print("listening", flush=True)
		nodes = set()
		while len(nodes) < 51:
		    event, *rest = told.recv(65536).split(b"\0")
		    for line in rest:
		        if event.startswith(b"add@") and line.startswith(b"DEVNAME=umpsc"):
		            path = "/dev/" + line[8:].decode()
		            assert path not in nodes, path + " came twice"
		            nodes.add(path)
		            os.close(os.open(path, os.O_WRONLY))
		print("opened", flush=True)
	END
	python3 listener.py > heard 2>&1 &
	listener=$!
	until_true grep -q listening heard || fail "no listener: $(cat heard)"
	names=$(seq 50 | sed 's/^/n/' | tr '\n' ,)
	module_load "channels=${names%,}" || fail "insmod"
	wait "$listener" || fail "$(tail -n 1 heard)"
	grep -q opened heard || fail "$(cat heard)"
	reload
}

# A device file that a container kept leads to no channel of the module's next life.
test_device_file_of_an_earlier_load() {
	reload channels=a,b
	old=$(cat /sys/class/umpsc/umpsc-b/dev)
	mknod old c "${old%:*}" "${old#*:}" || fail "mknod"
	: <> old || fail "it is not the node"
	rmmod umpsc || fail "rmmod"
	refused sh -c ': > old'
	reload channels=c,d,e,f
	refused sh -c ': <> old'
	grep -qi 'no such device or address' error || fail "$(cat error)"
	rm old
	reload
}

test_mode_uid_gid() {
	reload channels=a mode=0624 uid=123 gid=456
	for node in "$NODE" "$NODE-a"; do
		equal "$(stat -c '%a %u %g' "$node")" "624 123 456" "$node"
	done
	reload channels=a
	for node in "$NODE" "$NODE-a"; do
		equal "$(stat -c '%a %u %g' "$node")" "660 0 0" "$node"
	done
	reload mode=0
	equal "$(stat -c %a "$NODE")" 660 "mode=0"
}

# Who may not open it cannot.
test_permissions() {
	reload mode=0600
	refused su -s /bin/sh nobody -c "echo no > $NODE"
	reload mode=0602
	refused su -s /bin/sh nobody -c ": < $NODE"
	su -s /bin/sh nobody -c "echo yes > $NODE" || fail "a user may not send"
	equal "$(cat "$NODE")" yes "what came"
	reload
}

test_mailbox_off() {
	reload mailbox=0 channels=a
	equal "$(cat "$PARAMETERS/mailbox")" N "the parameter"
	for way in '>' '<'; do
		refused sh -c ": $way $NODE"
		grep -qi 'no such device or address' error || fail "$way: $(cat error)"
	done
	sh -c ": <> $NODE" || fail "no manager"
	echo x > "$NODE-a"
	equal "$(cat "$NODE-a")" x "what came"
	unload
	reload
}

# The largest message: changed at run time, for new sends.
test_max_len() {
	reload
	equal "$(cat "$PARAMETERS/max_len")" 16777216 "the default"
	head -c 1001 /dev/zero > bytes
	cat bytes > "$NODE"
	echo 1000 > "$PARAMETERS/max_len" || fail "it cannot be changed"
	refused sh -c "cat bytes > $NODE"
	grep -qi 'message too long' error || fail "too long: $(cat error)"
	head -c 1000 bytes > "$NODE" || fail "1000 bytes"
	echo 1001 > "$PARAMETERS/max_len"
	cat bytes > "$NODE" || fail "1001 bytes"
	equal "$(wc -c < "$NODE")" 3002 "bytes that came"
	reload max_len=10
	refused sh -c "cat bytes > $NODE"
	head -c 10 bytes > "$NODE" || fail "10 bytes"
	equal "$(wc -c < "$NODE")" 10 "bytes that came"
	reload
}

# bad PARAMETER...: refused with EINVAL (ERANGE: the kernel's parser has it so,
# where a number does not fit its type), and nothing is left behind.
bad() {
	refused module_load "$@"
	case $2:$(cat error) in
	*'invalid parameter' | *'nvalid argument') ;;
	*=[0-9]*:*'out of range') ;;
	*) fail "$*: $(cat error)" ;;
	esac
	nothing_left
}

test_bad_channels() {
	unload
	too_long=abcdefghijklmnopqrstuvwxyz-_0123
	for list in ',' 'a,' ,a a,,b '"a b"' a/b .. a.b a: a:Standing a:standing: a:standing:standing \
		:standing a:b "$too_long" "b,$too_long" a,a a,b:standing,b 'b,a*' "$(printf '\303\251')" 'a;' \
		a=b; do
		# Where the first were good, they go too.
		bad "channels=first,second:standing,$list" mailbox=1
	done
	bad channels=a: mailbox=1
	module_load channels=a || fail "after all of them, a good one"
	reload
}

test_bad_mode_uid_gid() {
	unload
	for parameter in mode=01000 mode=07777 mode=rw mode=-1 mode=70000 mode= uid=-1 uid=4294967295 \
		gid=4294967295 gid=root uid=4294967296 mailbox=2 max_len=x max_len=-1; do
		bad channels=a "$parameter"
	done
	module_load || fail "after all of them, none"
}

ktap_one "$@"
ktap_run version region_and_class unload_after_use unload_busy_while_open \
	unload_busy_with_private_handles unload_busy_with_messages unload_after_node_removed \
	unload_with_figures_open \
	twenty_reloads reloads_while_others_open channels many_channels announced_nodes_can_be_opened \
	device_file_of_an_earlier_load mode_uid_gid permissions mailbox_off max_len \
	bad_channels bad_mode_uid_gid
status=$?
module_loaded || module_load || exit 1
exit "$status"
