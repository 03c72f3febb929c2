#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# The examples of tools/examples, and those of libumpsc's manual pages, do what they say.
# shellcheck disable=SC2317 # ktap_run calls the tests
set -u
# shellcheck source=selftests/ktap_helpers.sh
. "$(dirname "$0")/ktap_helpers.sh"

HERE=$(cd "$(dirname "$0")" && pwd)
EXAMPLES=$HERE/examples
NODE=/dev/umpsc
LOG=/dev/umpsc-log

receives() {
	grep -q -s "umpsc-role:.receiver" "/proc/$1/fdinfo/"*
}

lines() {
	[ "$(wc -l < "$1")" = "$2" ]
}

test_epoll() {
	"$EXAMPLES/epoll" > out &
	service=$!
	until_true receives "$service" || fail "it does not attach"
	# Senders that come and go do not end it.
	echo one > "$NODE"
	until_true lines out 1 || fail "the first line"
	echo two > "$NODE"
	until_true lines out 2 || fail "the second line"
	# What was accepted when it is told to end is printed, and nothing is accepted then.
	kill -STOP "$service"
	seq 100 | while read -r n; do echo "$n"; done > "$NODE" || fail "sending"
	kill -TERM "$service"
	kill -CONT "$service"
	wait "$service" || fail "status $?"
	{ echo one && echo two && seq 100; } > want
	same out want
}

# Of a node by its name.
test_epoll_of_a_node() {
	"$EXAMPLES/epoll" log > out &
	until_true receives $! || fail "it does not attach"
	echo logged > "$LOG"
	until_true lines out 1 || fail "the line"
	kill -INT $!
	wait $! || fail "status $?"
	equal "$(cat out)" logged "the line"
	refused "$EXAMPLES/epoll" there-is-none
	contains_text error 'no such node'
}

contains_text() {
	grep -q -e "$2" "$1" || { cat "$1"; fail "'$2' is not in $1"; }
}

test_uring() {
	"$EXAMPLES/uring" > out || fail "status $?"
	for channel in 0 1; do
		grep "channel $channel" out > got
		for n in 0 1 2; do echo "channel $channel: $n"; done > want
		same got want
	done
	lines out 6 || fail "more than that"
}

# Each client got the answers to its own questions, in their order.
test_request_reply() {
	"$EXAMPLES/request_reply" > out || fail "status $?"
	until_true lines out 6 || { cat out; fail "six answers"; }
	awk '$1 != $NF ":" || $2 " " $3 " " $4 != "answer to question" || $5 != ++asked[$1] { bad = 1 }
		END { for (client in asked) n++; exit bad || n != 3 }' out || { cat out; fail "wrong answers"; }
}

test_python_selectors() {
	need python3
	"$EXAMPLES/receive_selectors.py" "$NODE" "$LOG" > out &
	until_true receives $! || fail "it does not receive"
	exec 3> "$NODE"
	echo hello >&3
	until_true lines out 1 || fail "the first message"
	# Larger than what it has memory for.
	head -c 100000 /dev/zero | tr '\0' 'x' | busybox dd bs=200000 iflag=fullblock 2> /dev/null >&3
	until_true lines out 2 || fail "the large message"
	exec 3>&-
	echo world > "$LOG"
	wait $! || fail "status $?"
	equal "$(sed -n 1p out)" "$NODE 0 from 1: b'hello\\n'" "the first message"
	equal "$(sed -n 2p out | tr -d x)" "$NODE 1 from 1: b''" "the large one"
	equal "$(sed -n 2p out | tr -d -c x | wc -c)" 100000 "its bytes"
	equal "$(sed -n 3p out)" "$LOG 0 from 1: b'world\\n'" "the other node's"
	lines out 3 || fail "more than that"
}

test_python_asyncio() {
	need python3
	"$EXAMPLES/receive_asyncio.py" "$NODE" > out || fail "status $?"
	for task in 0 1 2; do
		grep "task $task" out > got
		for n in 0 1 2; do echo "task $task $n"; done > want
		same got want
	done
	lines out 9 || fail "more than that"
}

test_rust() {
	[ -x "$EXAMPLES/channel" ] || skip "there is no rustc"
	"$EXAMPLES/channel" > out || fail "status $?"
	for thread in 0 1 2; do
		grep "thread $thread" out > got
		for n in 0 1 2; do echo "thread $thread: $n"; done > want
		same got want
	done
	equal "$(grep -c '^100000 bytes$' out)" 3 "large messages"
	lines out 12 || fail "more than that"
}

test_merge() {
	shell=$1
	case $shell in
	ash) shell="busybox ash" ;;
	*) need "$shell" ;;
	esac
	$shell "$EXAMPLES/merge.sh" 'seq 60' 'true' 'echo out; echo err >&2' 'seq 1000 1059; exit 1' > out || fail "status $?"
	for command in 1 4; do
		seq $((command == 1 ? 1 : 1000)) $((command == 1 ? 60 : 1059)) | sed "s/^/[$command] /" > want
		grep "^\[$command\]" out > got
		same got want
	done
	grep '^\[3\]' out | sort > got
	printf '[3] err\n[3] out\n' > want
	same got want
	lines out 122 || fail "more than that"
}

# man.PAGE: its example prints what the page says.
test_man() {
	"$EXAMPLES/man-$1" > out || fail "status $?"
	same out "$EXAMPLES/man-$1-1.out"
}

ktap_one "$@"
rmmod umpsc
module_load channels=log || exit 1

pages=
for page in "$EXAMPLES"/man-*[!0-9t]; do
	pages="$pages man.${page#"$EXAMPLES/man-"}"
done
# shellcheck disable=SC2086 # a list of words
ktap_run epoll epoll_of_a_node uring request_reply python_selectors python_asyncio rust \
	merge.bash merge.dash merge.ash $pages
status=$?
rmmod umpsc && module_load || exit 1
exit "$status"
