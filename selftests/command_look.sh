#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# umpsc stat, top, wait and holders, which only look; and what all commands share.
# shellcheck disable=SC2317 # ktap_run calls the tests
set -u
# shellcheck source=selftests/command_helpers.sh
. "$(dirname "$0")/command_helpers.sh"

# ---- stat, top, wait, holders --------------------------------------------------

test_stat() {
	node --timestamp --max-messages=3 --max-bytes=1K log
	ends 0 umpsc stat log
	says out '^log: /dev/umpsc-log, ordinary, rw-rw---- root root$' '^  channel  *none begun yet$'
	umpsc send -m one -m two -m three log
	umpsc send -m four log 2> /dev/null
	exec 3< /dev/umpsc-log
	ends 0 umpsc stat log
	says out '^  channel  *number 1, ended; 0 senders, a receiver$' \
		'^  queued  *3 messages, 11 B in .* of memory, the oldest for [0-9.]* [mun]*s$' \
		'^  at most  *3 messages, 11 B at a time$' '^  sent  *3 messages, 11 B$' '^  received  *0 messages, 0 B$' \
		'^  discarded  *0 messages$' '^  refused  *1 send (1 the channel was full)$' \
		'^  limits  *3 messages queued, 1.0 KiB queued$' '^  notes  *time of each message$'
	umpsc send -m five log
	ends 0 umpsc stat log
	says out '^  channel  *number 2, open; 0 senders, no receiver$' '^  queued  *1 message, 4 B' \
		'^  *3 messages, 11 B in older channels$'
	exec 3<&-
	ends 0 umpsc stat
	says out '^umpsc: /dev/umpsc, ordinary' '^log: ' '^  discarded  *3 messages$'
	ends 3 umpsc stat log nosuch
}

test_stat_json() {
	need python3
	node -s -c log
	umpsc send -m one log
	ends 0 umpsc stat --json
	equal "$(json out '[n["node"] for n in j]')" "['umpsc', 'log']" "nodes"
	equal "$(json out '[(n["standing"], n["creds"], n["depth"], n["sent_bytes"], n["path"]) for n in j]')" \
		"[(False, False, 0, 0, '/dev/umpsc'), (True, True, 1, 3, '/dev/umpsc-log')]" "figures"
	# As many as there are files.
	files=$(find "$CLASS/umpsc-log/" -maxdepth 1 -type f ! -name dev ! -name uevent | wc -l)
	equal "$(json out 'len(j[1])')" $((files + 2)) "members"
	ends 0 umpsc stat -j log
	equal "$(json out 'len(j)')" 1 "nodes"
}

# Each line as the text format has it, each metric with its type ahead.
test_stat_prometheus() {
	node -s log
	node b
	umpsc send -m one log
	ends 0 umpsc stat --prometheus
	awk '
	/^# HELP umpsc_[a-z_]+ [A-Z].*\.?$/ { help = $3; next }
	/^# TYPE umpsc_[a-z_]+ (gauge|counter)$/ {
		if ($3 != help || seen[$3]++ || ($4 == "counter") != ($3 ~ /_total$/)) bad = 1
		type = $3
		next
	}
	/^umpsc_[a-z_]+\{node="[A-Za-z0-9_-]+"(,cause="[a-z]+")?\} [0-9.]+$/ {
		name = $1
		sub(/\{.*/, "", name)
		if (name != type || lines[$1]++) bad = 1
		n++
		next
	}
	{ bad = 1 }
	END { exit bad || n != 3 * 24 }' out || { cat out; fail "not the format, or not 24 figures of 3 nodes"; }
	says out '^umpsc_queued_messages{node="log"} 1$' '^umpsc_sent_bytes_total{node="log"} 3$' \
		'^umpsc_refused_total{node="b",cause="closed"} 0$'
}

test_top_plain() {
	node -s log
	node a
	seq 5 | umpsc send log
	umpsc send -m x -m y a
	sleep 100 > /dev/umpsc-log &
	until_true is log strong 1 || fail "no sender"
	ends 0 umpsc top -n 2 -d 200ms
	equal "$(grep -c 'IN/s' out)" 2 "looks"
	says out '^[0-9:]*  3 nodes, 7 messages, 12 B queued; by messages$' \
		'^NODE  *MESSAGES  *BYTES  *AGE  *IN/s  *OUT/s  *SENDERS  *HOLDERS  *RECEIVER$' \
		'^log  *5  *10 B  *-  *0  *0  *1  *1  *-$'
	grep "$(printf '\033')" out && fail "escape sequences"
	for order in messages:log,a,umpsc name:umpsc,a,log bytes:log,a,umpsc senders:log,umpsc,a; do
		ends 0 umpsc top -n 1 -d 10ms -s "${order%%:*}"
		equal "$(sed -n '3,$s/ .*//p' out | tr '\n' ,)" "${order#*:}," "the order by ${order%%:*}"
	done
	ends 0 umpsc top -n 1 -d 10ms -r -s messages
	equal "$(sed -n '3,$s/ .*//p' out | tr '\n' ,)" umpsc,a,log, "reversed"
	ends 0 umpsc top -n 1 -d 10ms a
	says out '  1 node, 2 messages'
	for arguments in '-s nosuch' '-n 0' '-n x' '-d 0' '-d x'; do
		# shellcheck disable=SC2086 # a list of words
		ends 2 umpsc top $arguments
	done
	ends 3 umpsc top nosuch
	kill %1
}

test_top_rates() {
	node -s log
	umpsc recv log > /dev/null &
	until_true claimed log || fail "no receiver"
	(while [ ! -e stop ]; do seq 10 | umpsc send log; done) &
	ends 0 umpsc top -n 3 -d 1 log
	touch stop
	# Each look but the first has seen some come, and go.
	awk '$1 == "log" { looks++; if (looks > 1 && ($6 + 0 < 1 || $7 + 0 < 1)) bad = 1 } END { exit bad || looks != 3 }' out ||
		{ cat out; fail "the rates"; }
	says out 'umpsc ([0-9]*)$'
}

test_wait() {
	node -s log
	ends 0 umpsc wait log
	umpsc send -m one -m two log
	ends 4 umpsc wait -t 100ms log
	says error '^umpsc: log: after 100.* still not empty'
	umpsc wait --empty log &
	umpsc recv -n 1 log > /dev/null
	is log depth 1 && kill -0 $! || fail "it does not wait"
	umpsc recv -n 1 log > /dev/null
	wait $! || fail "wait: status $?"
	umpsc send -m x log
	umpsc wait log 2> error &
	sleep 0.3
	umpsc rm -f log
	wait $!
	equal $? 3 "status when the node is removed"
	says error '^umpsc: log: the node has been removed'
	ends 3 umpsc wait log
	# Another one of its name is not what it waits for.
	node log
	umpsc wait --closed log 2> error &
	sleep 0.3
	kill -STOP $!
	umpsc rm -f log
	node log
	kill -CONT $!
	wait $!
	equal $? 3 "status when the node is another"
	says error '^umpsc: log: the node has been removed'
	ends 2 umpsc wait
	ends 2 umpsc wait -t x umpsc
}

# Older channels that are still drained count.
test_wait_older_channels() {
	node log
	umpsc send -m one log
	exec 3< /dev/umpsc-log
	umpsc send -m two log
	equal "$(umpsc recv log)" two "the new one"
	ends 4 umpsc wait -t 100ms log
	cat <&3 > /dev/null
	ends 0 umpsc wait log
}

test_wait_closed() {
	node log
	# Where none has begun, the first one.
	umpsc wait --closed log &
	exec 3> /dev/umpsc-log 4< /dev/umpsc-log
	sleep 0.3
	kill -0 $! || fail "it does not wait"
	exec 3>&-
	wait $! || fail "wait: status $?"
	exec 4<&-
	# One that has ended.
	ends 0 umpsc wait --closed log
	# Both: what is left has to be received.
	exec 3> /dev/umpsc-log 4< /dev/umpsc-log
	echo x >&3
	ends 4 umpsc wait -c -t 100ms log
	says error 'still open'
	exec 3>&-
	ends 0 umpsc wait -c log
	ends 4 umpsc wait -c -e -t 100ms log
	cat <&4 > /dev/null
	ends 0 umpsc wait -c -e log
}

test_holders() {
	need python3
	node -s log
	node b
	ends 0 umpsc holders
	equal "$(cat out)" "" "without any"
	umpsc send -m one -m two b
	sleep 100 > /dev/umpsc-log &
	sender=$!
	# shellcheck disable=SC2217 # to have it open is all
	sleep 100 < /dev/umpsc-log &
	receiver=$!
	mkfifo go
	python3 -c '
import fcntl, os, struct, sys
m = os.open("/dev/umpsc-log", os.O_RDWR)
args = bytearray(struct.pack("IIIIQQQii", 0, 0, 0, 0, 0, 0, 0, -1, -1))
fcntl.ioctl(m, 0xC0000000 | len(args) << 16 | 0xD501, args)
rx, tx = struct.unpack("ii", args[-8:])
weak = fcntl.ioctl(tx, 0xD512, 0)
open("ready", "w").close()
sys.stdin.read()' < go &
	python=$!
	exec 3> go
	until_true [ -e ready ] || fail "no private channel"
	ends 0 umpsc holders
	says out '^NODE  *CHANNEL  *ROLE  *PID  *FD  *USER  *COMMAND$' \
		"^log  *1  *sender  *$sender  *1  *root  *sleep$" "^log  *1  *receiver  *$receiver  *0  *root  *sleep$" \
		"^log  *1  *manager  *$python  *[0-9]*  *root  *python3" \
		"^(private)  *[0-9]*  *receiver  *$python " "^(private)  *[0-9]*  *sender  *$python " \
		"^(private)  *[0-9]*  *weak  *$python " \
		'^b: 2 messages wait for a receiver and keep the module loaded$'
	equal "$(grep -c '^(private)' out)" 3 "handles of the private channel"
	ends 0 umpsc holders log
	grep -q 'private\|^b' out && fail "more than log's"
	equal "$(grep -c '^log' out)" 3 "handles of log"
	ends 0 umpsc holders -j log
	equal "$(json out "sorted((h['role'], h['pid'], h['node'], h['generation']) for h in j)")" \
		"[('manager', $python, 'log', 1), ('receiver', $receiver, 'log', 1), ('sender', $sender, 'log', 1)]" "in JSON"
	ends 0 as_nobody umpsc holders
	says error '^umpsc: [0-9]* process.* of other users not shown'
	says out '^b: 2 messages wait'
	ends 3 umpsc holders nosuch
	exec 3>&-
	kill "$sender" "$receiver"
	wait
}

# Who may open no node sees everything all the same, and nothing has changed by it.
test_looking_changes_nothing() {
	node -m 0600 -s log
	umpsc send -m one log
	chmod 600 /dev/umpsc
	before=$(cat "$CLASS"/umpsc/[a-z]* "$CLASS"/umpsc-log/[a-z]* 2> /dev/null | md5sum)
	for command in ls 'ls -q' stat 'stat -j' 'stat -p' 'top -n 2 -d 50ms' holders; do
		# shellcheck disable=SC2086 # a command with words
		ends 0 as_nobody umpsc $command
		says out 'log'
	done
	ends 4 as_nobody umpsc wait -t 50ms log
	ends 1 as_nobody umpsc doctor
	says out 'you (nobody) may not use /dev/umpsc-log'
	after=$(cat "$CLASS"/umpsc/[a-z]* "$CLASS"/umpsc-log/[a-z]* 2> /dev/null | md5sum)
	equal "$after" "$before" "the figures"
	equal "$(sysfs log generation) $(cat "$CLASS/umpsc/generation")" "1 0" "channels begun"
}

# ---- All of them ----------------------------------------------------------------

test_help() {
	ends 0 umpsc --help
	says out '^Usage: umpsc COMMAND'
	for command in create rm ls send recv stat top wait holders doctor; do
		says out "^  $command  *[a-z]"
	done
	ends 0 umpsc help
	for command in create rm ls send recv stat top wait holders doctor; do
		ends 0 umpsc "$command" --help
		says out "^Usage: umpsc $command "
		mv out long
		ends 0 umpsc "$command" -h
		same out long
		ends 0 umpsc help "$command"
		same out long
		# Nobody wants to scroll to the side.
		awk 'length($0) > 90 { print; bad = 1 } END { exit bad }' long || fail "long lines"
		ends 2 umpsc "$command" --nosuch
		says error "^umpsc: $command: there is no option --nosuch; 'umpsc $command --help'"
	done
	ends 0 umpsc --version
	says out '^umpsc [0-9.]* (module [0-9.]*)$'
	ends 2 umpsc
	ends 2 umpsc nosuch
	says error "there is no command 'nosuch'"
	ends 2 umpsc help nosuch
	ends 2 umpsc doctor what
	# What cannot be written is an error.
	umpsc --help > /dev/full 2> error && fail "success"
	umpsc ls > /dev/full 2> error
	equal $? 1 "status"
	says error '^umpsc: standard output: No space left on device'
}

test_module_not_loaded() {
	rmmod umpsc || fail "rmmod"
	for command in 'create log' 'rm log' ls stat top 'send log' 'recv log' 'wait log' holders; do
		# shellcheck disable=SC2086 # a command with words
		ends 3 umpsc $command
		says error 'the module umpsc is not loaded' 'umpsc doctor'
		equal "$(cat out)" "" "output of umpsc $command"
	done
	ends 1 umpsc doctor -q
	says out 'not-installed\|not-loaded'
	ends 0 umpsc --version
	says out 'the module is not loaded'
	module_load || fail "insmod"
}

# What bash offers at the end of each line that it reads.
completions() {
	bash -c '
	. "$1"
	while IFS= read -r COMP_LINE; do
		# As readline does: blanks and "=" part words, and a blank begins one.
		read -r -a COMP_WORDS <<< "${COMP_LINE//=/ = }"
		[[ $COMP_LINE != *" " ]] || COMP_WORDS+=("")
		COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
		_umpsc 2> /dev/null
		echo "$COMP_LINE|${COMPREPLY[*]}"
	done' - "$HERE/umpsc.bash-completion"
}

test_completion() {
	need bash
	[ -r "$HERE/umpsc.bash-completion" ] || skip "there is no umpsc.bash-completion"
	node log
	node jobs
	: > file1
	cat > want <<-'END'
	umpsc s|send stat
	umpsc help re|recv
	umpsc recv |umpsc jobs log
	umpsc recv -n 3 l|log
	umpsc recv -j log |
	umpsc rm log j|jobs
	umpsc send log fi|file1
	umpsc recv --f|--follow
	umpsc create --max-m|--max-messages=
	umpsc top --sort=s|senders
	umpsc top -s se|senders
	umpsc create -o nob|nobody
	umpsc wait -t |
	END
	sed 's/|.*//' want | completions > got || fail "bash"
	same got want
	# Every option that --help knows.
	for command in create rm ls send recv stat top wait holders doctor; do
		umpsc "$command" --help | grep -o -E -e '--[a-z][a-z-]*' | sort -u | sed "s/^/umpsc $command /"
	done > options
	completions < options > got
	awk -F '|' '{ n = split($1, words, " "); if (index($2, words[n]) != 1) { print; bad = 1 } } END { exit bad || NR < 25 }' got ||
		fail "options are not offered"
}

# The examples of umpsc(1) print what it says.
test_man() {
	need "$1"
	[ -r "$HERE/umpsc.1" ] && [ -r "$HERE/examples.awk" ] || skip "there is no umpsc.1"
	awk -v language=sh -v prefix=example -f "$HERE/examples.awk" "$HERE/umpsc.1" || fail "examples.awk"
	n=1
	while [ -e "example$n" ]; do
		[ -e "example$n.out" ] || fail "example $n has no output"
		"$1" "example$n" > "got$n" 2>&1
		cmp "got$n" "example$n.out" || { cat "example$n" "got$n"; fail "example $n prints something else"; }
		n=$((n + 1))
	done
	[ "$n" -gt 3 ] || fail "umpsc.1 has $((n - 1)) examples"
}

command_run "$@" -- stat stat_json stat_prometheus top_plain top_rates wait wait_older_channels \
	wait_closed holders looking_changes_nothing help module_not_loaded completion man.bash man.dash
