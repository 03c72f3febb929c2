#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# umpsc under the tools that users have: what comes out is what went in.
# shellcheck disable=SC2317 # ktap_run calls the tests
set -u
# shellcheck source=selftests/ktap_helpers.sh
. "$(dirname "$0")/ktap_helpers.sh"

HERE=$(cd "$(dirname "$0")" && pwd)
COREUTILS=${COREUTILS:-/coreutils}
NODE=/dev/umpsc
LOG=/dev/umpsc-log
# shellcheck disable=SC2016 # shells that are tested expand it
LOOP='while IFS= read -r l; do printf "%s\n" "$l"; done'

# ---- What is sent ---------------------------------------------------------

# Lines with everything that a careless shell would spoil.
odd_text() {
	printf 'plain\n\n\n  blanks around  \n\ttab\t\nback\\slash \\n \\\n'
	# shellcheck disable=SC2016 # as it is
	printf '%s\n' '"quotes" '\''and'\'' $HOME `date` * ~ # %s %d' '-n' '-e'
	printf '\303\251\342\202\254 \377\376 \001\033\n'
	awk 'BEGIN { for (i = 0; i < 3000; i++) printf "x"; print "" }'
	seq 300 | sed 's/^/line /'
}

# A text of $1 bytes, one long line in base64.
long_line() {
	head -c "$1" /dev/urandom | base64 | tr -d '\n' | head -c "$1"
}

# The tool $2 of $1: "busybox" or "coreutils".
tool() {
	case $1 in
	busybox) echo "busybox $2" ;;
	coreutils)
		[ -x "$COREUTILS/$2" ] || skip "there is no $COREUTILS/$2"
		echo "$COREUTILS/$2"
		;;
	esac
}

# Send FILE in one write.
send_whole() {
	busybox dd if="$1" of="$NODE" bs=16M count=1 2> /dev/null || fail "dd of $1"
}

# ---- The basics -----------------------------------------------------------

test_hello() {
	cat "$NODE" > out &
	echo hello > "$NODE" || fail "echo"
	wait $! || fail "cat"
	equal "$(cat out)" hello "what cat printed"
}

test_echo_echo_cat() {
	echo a > "$NODE" || fail "echo a"
	echo b > "$NODE" || fail "echo b"
	cat "$NODE" > out || fail "cat"
	printf 'a\nb\n' > want
	same out want
}

test_append() {
	echo a >> "$NODE" || fail "echo a"
	cat < "$NODE" > out || fail "cat"
	equal "$(cat out)" a "what came"
}

# A sender that sends nothing is a sender: the receiver sees the end.
test_nothing_sent() {
	: > "$NODE"
	cat "$NODE" > out || fail "cat"
	equal "$(wc -c < out)" 0 "bytes"
	printf '' > "$NODE"
	cat "$NODE" > out || fail "cat"
	equal "$(wc -c < out)" 0 "bytes"
}

test_read_write_is_the_manager() {
	echo kept > "$NODE"
	refused cat 0<> "$NODE"
	grep -q 'Invalid argument' error || fail "cat: $(cat error)"
	refused sh -c "echo no 1<> $NODE"
	equal "$(cat "$NODE")" kept "what came"
}

test_second_receiver() {
	exec 4< "$NODE"
	refused cat "$NODE"
	grep -qi 'busy' error || fail "cat: $(cat error)"
	echo first > "$NODE"
	equal "$(cat <&4)" first "what the first receiver has"
}

# Who has which handle, as the README lists them.
test_list_handles() {
	exec 3> "$NODE"
	exec 4< "$NODE"
	exec 5<> "$NODE"
	grep -s umpsc-role /proc/[0-9]*/fdinfo/* > list
	for line in 3:sender 4:receiver 5:manager; do
		grep -q "^/proc/$$/fdinfo/${line%:*}:umpsc-role:[[:space:]]*${line#*:}$" list ||
			fail "$line is not in: $(cat list)"
	done
}

# A sender whose receiver has gone gets an error, no signal.
test_broken_pipe() {
	exec 3> "$NODE"
	echo taken >&3
	equal "$(head -n 1 "$NODE")" taken "the first line"
	for family in busybox coreutils; do
		cat=$(tool "$family" cat) || skip "$cat"
		# shellcheck disable=SC2086 # a command, perhaps with a word
		$cat /etc/passwd 2> error >&3
		equal $? 1 "the status of $cat"
		grep -q 'Broken pipe' error || fail "$cat: $(cat error)"
	done
}

# ---- Shells ---------------------------------------------------------------

# The loop takes every line, of a message with many and of many with one.
test_while_read() {
	need "$1"
	odd_text > text
	exec 3> "$NODE"
	send_whole text
	equal "$(figure 3 messages)" 1 "messages"
	while IFS= read -r l; do printf '%s\n' "$l"; done < text >&3
	exec 3>&-
	"$1" -c "$LOOP" < "$NODE" > out || fail "$1"
	cat text text > want
	same out want
}

# What one command of a group leaves, the next one gets.
test_read_and_cat() {
	need "$1"
	printf '1\n2\n3\n4\n' > text
	send_whole text
	echo 5 > "$NODE"
	# shellcheck disable=SC2016 # for that shell
	"$1" -c '{ read -r a; read -r b; echo "$b $a"; cat; }' < "$NODE" > out || fail "$1"
	equal "$(tr '\n' , < out)" "2 1,3,4,5," "what they printed"
}

# Each printf of a line is one message.
test_loop_writes() {
	need "$1"
	odd_text > text
	exec 3> "$NODE"
	"$1" -c "$LOOP < text > $NODE" || fail "$1"
	equal "$(figure 3 messages)" "$(wc -l < text)" "messages"
	exec 3>&-
	cat "$NODE" > out
	same out text
}

test_echo_writes() {
	need "$1"
	exec 3> "$NODE"
	"$1" -c "echo one; echo; echo 'two  words'; printf three" >&3 || fail "$1"
	equal "$(figure 3 messages)" 4 "messages"
	exec 3>&-
	cat "$NODE" > out
	printf 'one\n\ntwo  words\nthree' > want
	same out want
}

# A line of a megabyte: how many writes the shell makes of it is its own affair.
test_long_line() {
	need "$1"
	long_line 1048576 > text
	echo >> text
	exec 3> "$NODE"
	# shellcheck disable=SC2016 # for that shell
	"$1" -c 'l=$(cat text); printf "%s\n" "$l"' >&3 || fail "$1"
	echo "$1 writes a line of 1 MiB as $(figure 3 messages) messages"
	exec 3>&-
	cat "$NODE" > out
	same out text
}

# ... and where a message is that long, the loop puts it together again.
test_read_long_line() {
	need "$1"
	long_line 50000 > text
	echo >> text
	send_whole text
	"$1" -c "$LOOP" < "$NODE" > out || fail "$1"
	same out text
}

# ---- Tools ----------------------------------------------------------------

# head takes what it needs and ends, senders or not; with it ends the channel.
test_head() {
	head=$(tool "$1" head) || skip "$head"
	exec 3> "$NODE"
	printf 'one\n' >&3
	printf 'two\n' >&3
	# shellcheck disable=SC2086 # a command, perhaps with a word
	equal "$($head -1 "$NODE")" one "head -1"
	refused sh -c 'echo three >&3'
	exec 3>&-
}

# ... but not where somebody else still holds the receiver.
test_head_and_cat() {
	head=$(tool "$1" head) || skip "$head"
	cat=$(tool "$1" cat) || skip "$cat"
	odd_text > text
	while IFS= read -r l; do printf '%s\n' "$l"; done < text > "$NODE"
	# shellcheck disable=SC2086 # as above
	{ $head -n 1 > first && $cat > rest; } < "$NODE" || fail "head or cat"
	equal "$(cat first)" plain "head -n 1"
	tail -n +2 text > want
	same rest want
}

test_dd() {
	dd=$(tool "$1" dd) || skip "$dd"
	head -c 1000 /dev/urandom > a
	head -c 5000 /dev/urandom > b
	cat a b > want
	for size in 1 7 512 4096 1M; do
		send_whole a
		send_whole b
		# shellcheck disable=SC2086 # as above
		$dd if="$NODE" bs="$size" > out 2> records || fail "dd bs=$size"
		same out want
	done
	equal "$(sed -n 1p records)" "0+2 records in" "dd bs=1M"
}

test_dd_and_cat() {
	dd=$(tool "$1" dd) || skip "$dd"
	head -c 5000 /dev/urandom > a
	send_whole a
	send_whole a
	# shellcheck disable=SC2086 # as above
	{ $dd bs=1000 count=2 > first 2> /dev/null && cat > rest; } < "$NODE"
	cat first rest > out
	cat a a > want
	same out want
	equal "$(wc -c < first)" 2000 "bytes that dd took"
}

test_cat_a_mebibyte() {
	cat=$(tool "$1" cat) || skip "$cat"
	head -c 1048576 /dev/urandom > big
	exec 3> "$NODE"
	send_whole big
	equal "$(figure 3 messages)" 1 "messages"
	equal "$(figure 3 bytes)" 1048576 "bytes"
	exec 3>&-
	# shellcheck disable=SC2086 # as above
	$cat "$NODE" > out || fail "cat"
	same out big
}

test_cat_writes() {
	cat=$(tool "$1" cat) || skip "$cat"
	head -c 1048577 /dev/urandom > big
	exec 3> "$NODE"
	# shellcheck disable=SC2086 # as above
	$cat big >&3 || fail "cat"
	equal "$(figure 3 bytes)" 1048577 "bytes"
	echo "$cat writes 1048577 bytes as $(figure 3 messages) messages"
	exec 3>&-
	cat "$NODE" > out
	same out big
}

test_tee() {
	tee=$(tool "$1" tee) || skip "$tee"
	odd_text > text
	# shellcheck disable=SC2086 # as above
	$tee "$NODE" < text > copy || fail "tee to the node"
	same copy text
	# shellcheck disable=SC2086 # as above
	$tee copy2 < "$NODE" > out || fail "tee from the node"
	same copy2 text
	same out text
}

test_awk() {
	case $1 in
	busybox) awk="busybox awk" ;;
	*) need "$1" && awk=$1 ;;
	esac
	odd_text > text
	$awk '{ print }' text > want
	for from in line whole; do
		if [ "$from" = line ]; then
			while IFS= read -r l; do printf '%s\n' "$l"; done < text > "$NODE"
		else
			send_whole text
		fi
		# shellcheck disable=SC2086 # as above
		$awk '{ print }' "$NODE" > out || fail "awk, by $from"
		same out want
	done
	exec 3> "$NODE"
	# shellcheck disable=SC2086 # as above
	$awk '{ print > "/dev/umpsc" }' text || fail "awk writes"
	echo "$awk writes $(wc -l < text) lines as $(figure 3 messages) messages"
	exec 3>&-
	cat "$NODE" > out
	same out want
}

test_filters() {
	odd_text > text
	for filter in sort wc "grep line" "sed s/line/LINE/" "tail -n 5"; do
		$filter < text > want
		while IFS= read -r l; do printf '%s\n' "$l"; done < text > "$NODE"
		# shellcheck disable=SC2086 # a command with words
		$filter < "$NODE" > out || fail "$filter"
		same out want
	done
}

# ---- Python ---------------------------------------------------------------

test_python_read() {
	need python3
	odd_text > text
	while IFS= read -r l; do printf '%s\n' "$l"; done < text > "$NODE"
	python3 -c 'import sys; sys.stdout.buffer.write(open("/dev/umpsc", "rb").read())' \
		> out || fail "binary"
	same out text

	awk 'BEGIN { for (i = 1; i <= 20000; i++) print "\303\251 line " i }' > text
	send_whole text
	python3 -X utf8 -c 'import sys; sys.stdout.write(open("/dev/umpsc").read())' > out ||
		fail "text"
	same out text
}

test_python_lines() {
	need python3
	awk 'BEGIN { for (i = 1; i <= 2000; i++) print "\303\251 line " i }' > text
	while IFS= read -r l; do printf '%s\n' "$l"; done < text > "$NODE"
	python3 -X utf8 -c '
for line in open("/dev/umpsc"):
    print(line, end="")' > out || fail "by line"
	same out text

	send_whole text
	python3 -X utf8 -c '
with open("/dev/umpsc") as f:
    print(f.readline(), end="")
    for line in f:
        print(line, end="")' > out || fail "readline, then by line"
	same out text
}

# Unbuffered, a read is of one message.
test_python_messages() {
	need python3
	printf 'one' > "$NODE"
	printf 'three' > "$NODE"
	python3 -c '
f = open("/dev/umpsc", "rb", buffering=0)
got = [f.read(100), f.read(3), f.read(100), f.read(100), f.read(100)]
assert got == [b"one", b"thr", b"ee", b"", b""], got' || fail "messages"
}

test_python_write() {
	need python3
	exec 3> "$NODE"
	python3 -X utf8 -c '
with open("/dev/umpsc", "w", buffering=1) as f:
    for i in range(100):
        print("line", i, file=f)
with open("/dev/umpsc", "wb", buffering=0) as f:
    assert f.write(bytes(1000000)) == 1000000' || fail "write"
	equal "$(figure 3 messages)" 101 "messages"
	exec 3>&-
	cat "$NODE" > out
	awk 'BEGIN { for (i = 0; i < 100; i++) print "line " i }' > want
	head -c 1000000 /dev/zero >> want
	same out want
}

# ---- A standing node ------------------------------------------------------

test_standing() {
	echo one > "$LOG"
	echo two > "$LOG"
	equal "$(head -n 1 < "$LOG")" one "the first receiver"
	equal "$(head -n 1 < "$LOG")" two "the second receiver"
	# Without a message it waits, though no sender is there.
	timeout 1 cat "$LOG" > out && fail "cat saw an end"
	equal "$(wc -c < out)" 0 "bytes"
	echo three > "$LOG"
	equal "$(head -n 1 < "$LOG")" three "the third receiver"
}

# ---- What the README says --------------------------------------------------

# Its shell examples, each with the output that follows it.
test_readme() {
	need "$1"
	[ -r "$HERE/README.md" ] || skip "there is no README.md"
	awk '
	/^```sh$/ { out = "example" ++n; open = 1; next }
	/^```text$/ && open { out = "output" n; open = 0; next }
	/^```/ { out = ""; next }
	out { print > out }' "$HERE/README.md"
	n=1
	while [ -e "example$n" ]; do
		[ -e "output$n" ] || fail "example $n has no output"
		"$1" "example$n" > "got$n" 2>&1
		if ! cmp "got$n" "output$n"; then
			cat "example$n" "got$n"
			fail "example $n prints something else"
		fi
		n=$((n + 1))
	done
	[ "$n" -gt 3 ] || fail "the README has $((n - 1)) examples"
}

# Its C example is tools/demo/example.c, and prints what it says.
test_readme_c() {
	for file in README.md example.c example; do
		[ -r "$HERE/$file" ] || skip "there is no $file"
	done
	awk '/^```c$/ { on = 1; next } /^```/ { on = 0 } on' "$HERE/README.md" > readme.c
	tail -n +2 "$HERE/example.c" > want.c
	same readme.c want.c
	"$HERE/example" > out || fail "it fails"
	awk '/^```c$/ { c = 1 } /^```text$/ && c { on = 1; next } on && /^```/ { exit } on' \
		"$HERE/README.md" > want
	same out want
}

ktap_one "$@"
rmmod umpsc
module_load channels=log:standing || exit 1

ktap_run hello echo_echo_cat append nothing_sent read_write_is_the_manager second_receiver \
	list_handles broken_pipe \
	while_read.bash while_read.dash while_read.ash \
	read_and_cat.bash read_and_cat.dash read_and_cat.ash \
	loop_writes.bash loop_writes.dash loop_writes.ash \
	echo_writes.bash echo_writes.dash echo_writes.ash \
	long_line.bash long_line.dash long_line.ash \
	read_long_line.bash read_long_line.dash read_long_line.ash \
	head.busybox head.coreutils head_and_cat.busybox head_and_cat.coreutils \
	dd.busybox dd.coreutils dd_and_cat.busybox dd_and_cat.coreutils \
	cat_a_mebibyte.busybox cat_a_mebibyte.coreutils cat_writes.busybox cat_writes.coreutils \
	tee.busybox tee.coreutils awk.mawk awk.busybox filters \
	python_read python_lines python_messages python_write \
	standing readme.bash readme.dash readme.ash readme_c
status=$?
rmmod umpsc && module_load || exit 1
exit "$status"
