#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# umpsc recv: each form of output and each exit status, and that nothing is lost.
# shellcheck disable=SC2317 # ktap_run calls the tests
set -u
# shellcheck source=selftests/command_helpers.sh
. "$(dirname "$0")/command_helpers.sh"

# ---- recv ---------------------------------------------------------------------

test_recv_lines() {
	node log
	printf 'no newline' > /dev/umpsc-log
	echo 'a line' > /dev/umpsc-log
	umpsc send -m '' log
	printf 'two\nlines\n' | umpsc send -w log
	ends 0 umpsc recv log
	printf 'no newline\na line\n\ntwo\nlines\n' > want
	same out want
}

# Any bytes, of any length, there and back.
test_recv_gives_back_what_was_sent() {
	node log
	head -c 300000 /dev/urandom > a
	head -c 4096 /dev/urandom > b
	printf '\n' > c
	for file in a b c; do
		umpsc send -w log "$file"
	done
	case $1 in
	file) umpsc recv -p log > got ;;
	cat) umpsc recv -p log | cat > got ;;
	esac || fail "recv"
	umpsc send -p log got || fail "send"
	umpsc recv -r log > got
	cat a b c > want
	same got want
}

test_recv_count() {
	node -s log
	seq 10000 | umpsc send log
	ends 0 umpsc recv -n 3 log
	equal "$(tr '\n' , < out)" 1,2,3, "the first"
	umpsc recv --count=4 log | cat > got
	equal "$(tr '\n' , < got)" 4,5,6,7, "the next"
	is log depth 9993 || fail "$(sysfs log depth) are left"
	ends 0 umpsc recv -n 0 log
	is log depth 9993 || fail "$(sysfs log depth) are left"
	umpsc recv -n 9993 log > got
	seq 8 10000 > want
	same got want
	for arguments in '-n x log' '-n -1 log' '-t x log' '-k log' '' 'log log'; do
		# shellcheck disable=SC2086 # a list of words
		ends 2 umpsc recv $arguments
	done
	# An ordinary node's channel goes with its receiver, which says so.
	node ordinary
	seq 10 | umpsc send ordinary
	ends 0 umpsc recv -n 0 ordinary
	ends 0 umpsc recv -n 4 ordinary
	equal "$(tr '\n' , < out)" 1,2,3,4, "what it took"
	says error '^umpsc: ordinary: 6 queued messages are discarded with the receiver' 'standing'
	seq 10 | umpsc send ordinary
	ends 5 umpsc recv -n 11 ordinary
	lines out 10 || fail "not all"
	says error '^umpsc: ordinary: the channel has ended, 1 messages short'
}

test_recv_timeout() {
	node -s log
	ends 4 umpsc recv -t 100ms log
	says error '^umpsc: log: no message has come for 100'
	umpsc send -m one -m two log
	ends 4 umpsc recv --timeout 0 log
	equal "$(tr '\n' , < out)" one,two, "what was there"
	# It counts from the last message.
	{ for n in 1 2 3 4 5; do echo "$n"; sleep 1; done; } | umpsc send log &
	ends 0 umpsc recv -t 30 -n 5 log
	lines out 5 || fail "$(cat out)"
}

test_recv_follow() {
	node log
	umpsc recv --follow log > got 2> error &
	for n in 1 2 3; do
		until_true claimed log || fail "it does not receive"
		echo "channel $n" > /dev/umpsc-log
		until_true lines got "$n" || fail "$(cat got)"
	done
	until_true is log generation 4 || fail "generation $(sysfs log generation)"
	until_true claimed log || fail "it does not follow"
	ends 0 umpsc rm log
	wait $!
	equal $? 3 "status when the node is removed"
	says error '^umpsc: log: there is no such node'
	# Without it, one channel is all.
	node log
	umpsc send -m one log
	ends 0 umpsc recv log
}

test_recv_busy() {
	node log
	exec 3< /dev/umpsc-log
	sleep 100 3<&3 &
	exec 3<&-
	ends 6 umpsc recv log
	says error "^umpsc: log: has a receiver already (.*process $!)"
	kill $!
	chmod 666 /dev/umpsc-log
	node log2
	ends 3 umpsc recv nosuch
	ends 7 as_nobody umpsc recv log2
	says error '^umpsc: log2: no access' 'rw-rw---- root root' 'umpsc doctor'
}

test_recv_json() {
	need python3
	node -s log
	printf 'plain\000"quotes" \\ and\ttab\n\000gr\303\274n \342\202\254 \360\237\230\200\000\001\037\177\000' | umpsc send -0 log
	# Not UTF-8: a lone byte, too long a form, half of a pair, cut off, above the last.
	printf 'a\377b\000\300\257\000\355\240\200\000\342\202\000\364\220\200\200\000' | umpsc send -0 log
	printf 'x\000y' | umpsc send -w log
	umpsc send -m '' log
	ends 4 umpsc recv --json -t 0 log
	cat > want <<-'END'
	{"generation":1,"seq":0,"sender":1,"data":"plain"}
	{"generation":1,"seq":1,"sender":1,"data":"\"quotes\" \\ and\ttab\n"}
	{"generation":1,"seq":2,"sender":1,"data":"grün € 😀"}
	{"generation":1,"seq":3,"sender":1,"data":"\u0001\u001f\u007f"}
	{"generation":1,"seq":4,"sender":2,"data_base64":"Yf9i"}
	{"generation":1,"seq":5,"sender":2,"data_base64":"wK8="}
	{"generation":1,"seq":6,"sender":2,"data_base64":"7aCA"}
	{"generation":1,"seq":7,"sender":2,"data_base64":"4oI="}
	{"generation":1,"seq":8,"sender":2,"data_base64":"9JCAgA=="}
	{"generation":1,"seq":9,"sender":3,"data":"x\u0000y"}
	{"generation":1,"seq":10,"sender":4,"data":""}
	END
	same out want
}

test_recv_json_notes() {
	need python3
	node -s -t -c log
	chmod 666 /dev/umpsc-log
	before=$(date -u +%Y-%m-%dT%H:%M:%S)
	as_nobody umpsc send -m x log
	ends 0 umpsc recv -n 1 -j log
	after=$(date -u +%Y-%m-%dT%H:%M:%S)
	equal "$(json out 'list(j)')" \
		"['generation', 'seq', 'sender', 'time', 'time_ns', 'pid', 'uid', 'gid', 'data']" "members"
	equal "$(json out 'j["uid"], j["gid"], j["pid"] > 1')" "(65534, 65534, True)" "who sent it"
	equal "$(json out "'$before' <= j['time'][:19] <= '$after' and len(j['time']) == 30")" True "when"
	# What an earlier receiver has read is said, too.
	umpsc send -m 'half read' log
	exec 3< /dev/umpsc-log
	dd bs=5 count=1 <&3 > /dev/null 2>&1
	exec 3<&-
	ends 0 umpsc recv -n 1 -j log
	equal "$(json out 'j["data"]')" "half read" "a standing node's"
}

test_recv_exec() {
	node -s -c log
	printf 'one\ntwo\n' | umpsc send log
	# shellcheck disable=SC2016 # for that shell
	ends 0 umpsc recv -n 2 --exec 'read l; echo "$UMPSC_SEQ/$UMPSC_SENDER/$UMPSC_UID: $l"; cat' log
	equal "$(cat out)" "0/1/0: one
1/1/0: two" "what it printed"
	# The one that fails is the last that is taken.
	seq 5 | umpsc send log
	ends 1 umpsc recv -x 'read n; echo "$n"; [ "$n" != 2 ]' log
	equal "$(tr '\n' , < out)" 1,2, "what it got"
	says error "^umpsc: log: '.*' ended with status 1, with message 3"
	is log depth 3 || fail "$(sysfs log depth) are left"
	ends 1 umpsc recv -k -n 3 -x 'read n; echo "$n"; [ "$n" != 4 ]' log
	equal "$(tr '\n' , < out)" 3,4,5, "what it got"
	umpsc send -m x log
	# shellcheck disable=SC2016 # for that shell
	ends 1 umpsc recv -n 1 -x 'kill -9 $$' log
	says error 'was killed by signal 9'
	# As large as it likes, and the command need not read it.
	head -c 1000000 /dev/urandom > big
	umpsc send -w log big big
	ends 0 umpsc recv -n 1 -x 'cmp - big' log
	ends 0 umpsc recv -n 1 -x true log
}

# Nothing is taken that cannot be written, or it is saved.
test_recv_output_full() {
	node -s log
	printf 'one\000two\000' | umpsc send -0 log
	mkdir tmp
	TMPDIR=$PWD/tmp umpsc recv -n 2 log > /dev/full 2> error
	equal $? 1 "status"
	says error '^umpsc: 2 received messages were not written (No space left on device), but saved in .*/tmp/umpsc-recv\.' \
		'^umpsc: standard output: No space left on device'
	equal "$(cat tmp/umpsc-recv.*)" "one
two" "what is saved"
	umpsc send -m three log
	TMPDIR=/nosuch umpsc recv -n 1 log > /dev/full 2> error
	equal $? 1 "status"
	says error '^umpsc: 1 received message is lost: not written (No space.*), and not saved in /nosuch/'
}

test_recv_no_output() {
	node -s log
	umpsc send -m one log
	umpsc recv -n 1 log >&- 2> error
	equal $? 1 "status"
	says error '^umpsc: standard output: Bad file descriptor'
	is log depth 1 || fail "taken all the same"
}

# A reader that goes is seen while nothing comes, and nothing more is taken.
test_recv_reader_gone() {
	node -s log
	mkfifo pipe
	umpsc recv log > pipe 2> error &
	exec 3< pipe
	umpsc send -m one log
	read -r line <&3
	equal "$line" one "the line"
	exec 3<&-
	wait $!
	equal $? 141 "status"
	equal "$(cat error)" "" "what it says"
	seq 100000 | umpsc send log
	umpsc recv log 2> error | head -n 1 > got
	equal "$(cat got)" 1 "the first line"
	# What the pipe held is gone with its reader; what follows is not.
	first=$(umpsc recv -n 1 log)
	equal $((first - 1 + $(sysfs log depth))) 99999 "messages that were taken and are left"
	[ "$first" -gt 1 ] && [ "$first" -lt 60000 ] || fail "the next one is $first"
}

# A signal loses nothing of what was taken, and ends it as signals do.
test_recv_signal() {
	need python3
	node -s log
	for signal in INT TERM HUP; do
		# A shell has those in the background ignore SIGINT, and they cannot undo it.
		python3 -c '
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])' umpsc recv log > got &
		pid=$!
		until_true claimed log || fail "no receiver"
		seq 20000 | umpsc send log &
		until_true [ -s got ] || fail "it prints nothing"
		kill "-$signal" "$pid"
		wait "$pid"
		equal $? $((128 + $(kill -l "$signal"))) "status of SIG$signal"
		wait
		umpsc recv -n "$(sysfs log depth)" log > rest
		cat got rest > all
		seq 20000 > want
		same all want
	done
}

# One that was ignored when it was started, as nohup and scripts do, does not end it.
test_recv_signal_ignored() {
	node -s log
	for signal in INT HUP; do
		(
			trap '' "$signal"
			exec umpsc recv -n 1 log > got
		) &
		until_true claimed log || fail "no receiver"
		kill "-$signal" $!
		umpsc send -m "after SIG$signal" log
		wait $! || fail "status $? of SIG$signal"
		equal "$(cat got)" "after SIG$signal" "what came"
		(
			trap '' "$signal"
			exec umpsc recv -n 1 log
		) &
		until_true claimed log || fail "no receiver"
		kill -TERM $!
		wait $!
		equal $? 143 "status of SIGTERM"
	done
}

# A message that is longer than what is taken at a time does not change that for others.
test_recv_long_among_short() {
	node -s log
	head -c 300000 /dev/zero > big
	umpsc send -w log big
	seq 100000 | umpsc send log
	mkfifo pipe
	umpsc recv log > pipe 2> error &
	exec 3< pipe
	equal "$(head -c 300000 <&3 | tr -d '\000' | wc -c)" 0 "other bytes in the long one"
	# Until the pipe is full.
	depth=''
	until [ "$(sysfs log depth)" = "$depth" ]; do
		depth=$(sysfs log depth)
		sleep 1
	done
	exec 3<&-
	wait $!
	equal $? 141 "status"
	equal "$(cat error)" "" "what was taken, and could not be written"
	is log depth "$depth" || fail "took more when its reader went"
}

command_run "$@" -- recv_lines recv_gives_back_what_was_sent.file recv_gives_back_what_was_sent.cat \
	recv_count recv_timeout recv_follow recv_busy recv_json recv_json_notes recv_exec recv_output_full \
	recv_no_output recv_reader_gone recv_signal recv_signal_ignored recv_long_among_short
