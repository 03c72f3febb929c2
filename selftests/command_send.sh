#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# umpsc create, rm, ls and send: what they do and refuse, and each exit status.
# shellcheck disable=SC2317 # ktap_run calls the tests
set -u
# shellcheck source=selftests/command_helpers.sh
. "$(dirname "$0")/command_helpers.sh"

# ---- create, rm, ls ----------------------------------------------------------

test_create() {
	ends 0 umpsc create log
	equal "$(cat out)" /dev/umpsc-log "what it prints"
	equal "$(stat -c '%a %u %g %F' /dev/umpsc-log)" "660 0 0 character special file" "the node"
	for figure in standing timestamp creds limit_len limit_msgs limit_bytes; do
		equal "$(sysfs log "$figure")" 0 "$figure"
	done
	ends 0 umpsc create --standing --timestamp --creds --mode=0624 --owner=nobody --group=tty \
		--max-len=1K --max-messages=7 --max-bytes=1.5MiB jobs
	equal "$(stat -c '%a %U %G' /dev/umpsc-jobs)" "624 nobody tty" "the node"
	for figure in standing timestamp creds; do
		equal "$(sysfs jobs "$figure")" 1 "$figure"
	done
	equal "$(sysfs jobs limit_len) $(sysfs jobs limit_msgs) $(sysfs jobs limit_bytes)" "1024 7 1572864" "limits"
	ends 0 umpsc create -s -t -c -m 600 -o 12 -g 34 x
	equal "$(stat -c '%a %u %g' /dev/umpsc-x)" "600 12 34" "the node"
	equal "$(sysfs x standing)$(sysfs x timestamp)$(sysfs x creds)" 111 "flags"
}

test_create_refused() {
	for arguments in '' 'a b' 'a.b' 'with/slash' 'abcdefghijklmnopqrstuvwxyz0123456' \
		'-m 888 a' '-m 01000 a' '-m 0 a' '-m x a' '-o nosuch a' '-g nosuch a' \
		'--max-len=x a' '--max-len=-1 a' '--max-messages=1K a' '--max-bytes= a' '--nosuch a' '-Z a' '-m'; do
		# shellcheck disable=SC2086 # a list of words
		ends 2 umpsc create $arguments
		equal "$(cat out)" "" "output of create $arguments"
		says error '^umpsc: create: ' 'umpsc create --help'
	done
	equal "$(find /dev -name 'umpsc-*')" "" "nodes"
	node a
	ends 6 umpsc create a
	says error '^umpsc: a: the node exists' 'umpsc rm a'
	# Who may use /dev/umpsc may not make nodes yet.
	chmod 666 /dev/umpsc
	ends 7 as_nobody umpsc create b
	says error '^umpsc: b: .*needs root'
	chmod 660 /dev/umpsc
	ends 7 as_nobody umpsc create b
	says error '^umpsc: .*no access' 'rw-rw---- root root'
	[ ! -e /dev/umpsc-b ] || fail "b is there"
}

test_rm() {
	node a
	node b
	node c
	ends 0 umpsc rm a /dev/umpsc-b
	[ ! -e /dev/umpsc-a ] && [ ! -e /dev/umpsc-b ] || fail "left"
	# Those that can be are removed, and the status is that of the first that cannot.
	ends 3 umpsc rm nosuch c umpsc
	says error '^umpsc: nosuch: there is no such node' '^umpsc: umpsc: .*cannot be removed'
	[ ! -e /dev/umpsc-c ] || fail "left"
	ends 7 umpsc rm umpsc
	[ -c /dev/umpsc ] || fail "/dev/umpsc is gone"
	ends 2 umpsc rm
	node a
	chmod 666 /dev/umpsc
	ends 7 as_nobody umpsc rm a
	says error 'needs root'
	[ -c /dev/umpsc-a ] || fail "a is gone"
}

test_rm_spares_what_waits() {
	node log
	umpsc send -m one -m two log
	ends 6 umpsc rm log
	says error '^umpsc: log: 2 messages wait there' 'rm --force'
	equal "$(umpsc recv log | tr '\n' ,)" one,two, "the messages"
	umpsc send -m three log
	ends 0 umpsc rm --force log
	[ ! -e /dev/umpsc-log ] || fail "left"
	# With a receiver nothing is lost.
	node log
	umpsc recv log > got &
	until_true claimed log || fail "no receiver"
	kill -STOP $!
	umpsc send -m one log
	ends 0 umpsc rm log
	kill -CONT $!
	wait $! || fail "recv: status $?"
	equal "$(cat got)" one "what it got"
}

# A name, as /dev has it, a path, and a device file elsewhere are one node.
test_names() {
	node log
	for name in log umpsc-log /dev/umpsc-log; do
		ends 0 umpsc send -m "by $name" "$name"
	done
	# shellcheck disable=SC2046 # two numbers
	mknod here c $(tr ':' ' ' < "$CLASS/umpsc-log/dev")
	ends 0 umpsc send -m "by a copy" ./here
	ends 0 umpsc stat ./here
	says out '^log: ./here' 'queued *4 messages'
	ends 0 umpsc send -m first umpsc
	equal "$(umpsc recv /dev/umpsc)" first "from /dev/umpsc"
	equal "$(umpsc recv ./here | wc -l)" 4 "messages"
	# One that is named so itself.
	node umpsc-log
	ends 0 umpsc send -m other umpsc-log
	equal "$(umpsc recv /dev/umpsc-umpsc-log)" other "the message"
	ends 2 umpsc send -m x /dev/null
	ends 2 umpsc send -m x 'a b'
	: > /dev/umpsc-file
	ends 3 umpsc send -m x file
	says error 'no node, but some file'
	rm /dev/umpsc-file
}

test_ls() {
	ends 0 umpsc ls
	says out '^NODE  *KIND  *MESSAGES  *BYTES  *SENDERS  *RECEIVER  *ACCESS$' \
		'^umpsc  *ordinary  *0  *0 B  *0  *-  *rw-rw---- root root$'
	node -s -g tty log
	seq 500 | umpsc send log
	exec 3> /dev/umpsc-log 4< /dev/umpsc-log
	ends 0 umpsc ls log
	says out '^log  *standing  *500  *1.8 KiB  *1  *yes  *rw-rw---- root tty$'
	lines out 2 || fail "more than the node"
	exec 3>&- 4<&-
	# Each title stands over its column.
	ends 0 umpsc ls
	awk 'NR == 1 { at = index($0, "SENDERS") + 6 } NR > 1 && substr($0, at, 1) !~ /[0-9]/ { exit 1 }' out ||
		{ cat out; fail "the columns"; }
	ends 0 umpsc ls -q
	equal "$(tr '\n' , < out)" umpsc,log, "names"
	ends 3 umpsc ls nosuch
	says error '^umpsc: nosuch: there is no such node' 'umpsc create nosuch'
	rm /dev/umpsc-log
	ends 0 umpsc ls log
	says out '/dev/umpsc-log is missing'
}

# ---- send ---------------------------------------------------------------------

test_send_lines() {
	node log
	printf 'one\n\n two  \nlast' > text
	printf 'more\n' > text2
	ends 0 umpsc send log text text2
	equal "$(sysfs log depth) $(sysfs log bytes)" "5 $(cat text text2 | wc -c)" "messages and bytes"
	# With their newlines, as echo sends them.
	cat /dev/umpsc-log > got
	cat text text2 > want
	same got want
	ends 0 umpsc send --chomp log text
	equal "$(cat /dev/umpsc-log)" "one two  last" "without newlines"
	umpsc send log - text2 < text || fail "send -"
	cat /dev/umpsc-log > got
	same got want
	umpsc send log < /dev/null || fail "send nothing"
	is log sent 14 || fail "$(sysfs log sent) sent"
}

test_send_null_whole_prefixed() {
	node log
	printf 'a b\000\n\000\000last' | umpsc send --null log || fail "--null"
	equal "$(sysfs log depth) $(sysfs log bytes)" "4 8" "messages and bytes"
	equal "$(umpsc recv -0 log | od -An -c | tr -d ' \n')" 'ab\0\n\0\0last\0' "--null"

	head -c 70000 /dev/urandom > a
	: > b
	ends 0 umpsc send --whole log a b
	is log depth 2 || fail "$(sysfs log depth) messages"
	umpsc recv --raw log > got
	same got a

	printf '\000\000\000\003abc\000\000\000\000\000\000\000\001\n' > framed
	ends 0 umpsc send --length-prefixed log framed
	is log depth 3 || fail "$(sysfs log depth) messages"
	umpsc recv -p log > got
	same got framed
	# Cut in a length, and in a message; what is ahead is sent.
	for size in 9 15; do
		head -c "$size" framed > short
		ends 1 umpsc send -p log short
		says error "^umpsc: log: message [23] of short was not sent: .*ends in the middle" '([12] messages\{0,1\} w'
		umpsc recv -r log > /dev/null
	done
}

test_send_text() {
	node log
	ends 0 umpsc send -m one --message='two words' -m '' log
	equal "$(sysfs log depth) $(sysfs log bytes)" "3 12" "messages and bytes"
	equal "$(umpsc recv log | tr '\n' ,)" "one,two words,," "what came"
	ends 2 umpsc send -m one log /etc/passwd
	ends 2 umpsc send
	ends 2 umpsc send -b 0 log
	ends 2 umpsc send -w -b 2 log /etc/passwd
	ends 1 umpsc send log /nosuch
	says error '^umpsc: log: /nosuch was not sent: No such file'
}

# What comes through a pipe waits for nothing that comes later.
test_send_at_once() {
	node log
	mkfifo pipe
	umpsc send log < pipe &
	exec 3> pipe
	for n in 1 2 3; do
		printf 'line %d\nhalf' "$n" >&3
		until_true is log depth "$n" || fail "line $n is not there"
	done
	exec 3>&-
	wait $! || fail "send"
	is log depth 4 || fail "$(sysfs log depth) messages"
}

# Many at a time, and no more at a time than asked for.
test_send_batches() {
	node log
	seq 20000 > text
	ends 0 umpsc send log text
	umpsc recv log > got
	same got text
	node --max-messages=10 small
	ends 1 umpsc send --batch=6 small text
	is small depth 6 || fail "$(sysfs small depth) messages, of batches of 6"
	says error '^umpsc: small: line 7 of text was not sent: the channel is full' '(6 messages were sent before)'
}

test_send_too_long() {
	node --max-len=10 log
	printf '123456789\n1234567890\nrest\n' > text
	ends 1 umpsc send log text
	says error '^umpsc: log: line 2 of text was not sent: it is longer than the 10 B (10 bytes)' \
		'(1 message was sent before)'
	is log depth 1 || fail "$(sysfs log depth) messages"
	ends 1 umpsc send -w log text
	says error 'text was not sent: it is longer'
	# One that never ends is not read for ever.
	timeout 60 umpsc send log < /dev/zero 2> error
	equal $? 1 "status"
	says error 'line 1 of standard input was not sent: it is longer'
	ends 1 umpsc send -m 12345678901 log
	is log refused 0 || fail "tried all the same"
}

test_send_full() {
	node --max-messages=5 log
	seq 8 > text
	ends 1 umpsc send log text
	says error '^umpsc: log: line 6 of text was not sent: the channel is full' 'use --wait' \
		'(5 messages were sent before)'
	# The sender waits, and everything comes.
	umpsc recv -n 5 log > /dev/null
	seq 2000 > text
	umpsc send --wait log text 2> error &
	until_true is log depth 5 || fail "it does not fill up"
	umpsc recv log > got
	wait $! || fail "send --wait: $(cat error)"
	same got text
	# A batch that can never fit waits for nothing.
	ends 1 timeout 60 umpsc send --wait --batch=6 log text
	says error 'line 1 of text was not sent: there will never be room for it'
	node --max-bytes=100 bytes
	ends 1 timeout 60 umpsc send --wait -w bytes text
	says error 'it is longer than the 100 B'
	parameter=/sys/module/umpsc/parameters/max_bytes
	ceiling=$(cat "$parameter")
	echo 1000000 > "$parameter"
	head -c 2000000 /dev/zero > big
	node free
	timeout 60 umpsc send --wait -w free big 2> error
	status=$?
	echo "$ceiling" > "$parameter"
	equal "$status" 1 "status of what is beyond the ceiling"
	says error 'big was not sent: there will never be room for it'
	ends 0 umpsc send --wait -w free big
}

test_send_receiver_gone() {
	node log
	exec 3< /dev/umpsc-log
	mkfifo pipe
	umpsc send log < pipe 2> error 3<&- &
	exec 4> pipe
	echo one >&4
	until_true is log depth 1 || fail "not sent"
	exec 3<&-
	echo two >&4
	wait $!
	equal $? 5 "status"
	says error '^umpsc: log: line 2 of standard input was not sent: the receiver has gone' \
		'(1 message was sent before)'
}

command_run "$@" -- create create_refused rm rm_spares_what_waits names ls send_lines \
	send_null_whole_prefixed send_text send_at_once send_batches send_too_long send_full \
	send_receiver_gone
