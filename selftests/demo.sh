#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# The demo: it passes on whole files, and finds each kind of spoilt line.
# shellcheck disable=SC2317 # ktap_run calls the tests
set -u
# shellcheck source=selftests/ktap_helpers.sh
. "$(dirname "$0")/ktap_helpers.sh"

HERE=$(cd "$(dirname "$0")" && pwd)

need_demo() {
	need umpsc-demo umpsc-demo.sh
	for file in README.md umpsc-demo.c example.c umpsc-demo.sh; do
		[ -r "$HERE/$file" ] || skip "there is no $file"
	done
}

# demo STATUS OPTION...: on real texts; what it prints goes to "out".
demo() {
	want=$1
	shift
	umpsc-demo.sh "$@" -l "$HERE/README.md" -b "$HERE/umpsc-demo.c" -b "$HERE/umpsc-demo.sh" \
		-c "$HERE/example.c" -c "$HERE/README.md" > out 2>&1
	equal $? "$want" "the status of the demo" || cat out
}

said() {
	grep -q -e "$1" out || {
		cat out
		fail "it does not say '$1'"
	}
}

not_said() {
	grep -e "$1" out && fail "it says '$1'"
	return 0
}

all_lines() {
	cat "$HERE/README.md" "$HERE/umpsc-demo.c" "$HERE/umpsc-demo.sh" "$HERE/example.c" \
		"$HERE/README.md" | wc -l
}

test_good() {
	need_demo
	demo 0
	said "^PASSED: $(all_lines) lines ([0-9]* KiB) of 5 files: each once, whole, in its sender's order$"
	not_said FAILED
	for how in "README.md  *shell loop  */dev/umpsc" "umpsc-demo.c  *SEND  */dev/umpsc" \
		"umpsc-demo.sh  *SEND  */dev/umpsc" "example.c  *clone, SEND private"; do
		said "^  $how, sender [0-9]*: [0-9]* of [0-9]* lines, as in the file$"
	done
}

# On a terminal it redraws; elsewhere it prints nothing but lines.
test_progress() {
	need_demo
	escape=$(printf '\033')
	demo 0 -d 2
	not_said "$escape"
	said "^ *[0-9.]* s  *[0-9]* lines  *[0-9]*/s, queued"
	demo 0 -d 2 -t
	said "$escape\\[7A  README.md  *shell loop  *\\[##*\\.*\\]  *[0-9]* of  *[0-9]*  *[0-9]*/s"
	said "queued in /dev/umpsc: [0-9]* lines"
	said "queued in private: [0-9]* lines.* oldest [0-9.]* s"
	not_said FAILED
}

# The line that was spoilt is the one that is found, and the only one.
sabotage() {
	need_demo
	demo 1 -s "$1"
	line=$(sed -n "s/^SABOTAGE=$1 spoiled line \([0-9]*\) of umpsc-demo.c$/\1/p" out)
	[ -n "$line" ] || fail "nothing was spoiled: $(cat out)"
	said "^FAILED: line $line of umpsc-demo.c $2"
	equal "$(grep -c '^FAILED: ' out)" 1 "lines that it found"
	said "^The demo FAILED (1)\.$"
	not_said PASSED
	said "^  umpsc-demo.c .*, NOT AS IN THE FILE$"
	equal "$(grep -c 'as in the file$' out)" 4 "files that are whole"
	# The line itself is shown.
	grep -A 1 '^FAILED' out | tail -n 1 | sed 's/^    //; s/ \.\.\.$//' > shown
	sed -n "${line}p" "$HERE/umpsc-demo.c" | tr '\t' ' ' | cut -c 1-70 > want
	same shown want
}

test_sabotage_drop() {
	sabotage drop 'was lost:$'
}

test_sabotage_double() {
	sabotage double 'arrived twice:$'
}

test_sabotage_swap() {
	sabotage swap 'arrived after line [0-9]*:$'
}

# Lines that are easily lost: empty, very long, without a newline at the end.
test_odd_lines() {
	need_demo
	{
		printf '\n\n  x  \n\\ \\n\t\n'
		head -c 100000 /dev/zero | tr '\0' y
		printf '\n\377\376\001\r\n\n\n'
	} > ended
	{
		cat ended
		printf 'no newline'
	} > open
	printf '\n' > newline
	printf 'x' > byte
	: > empty
	umpsc-demo.sh -l ended -b open -b newline -b empty -c open -c byte -c newline > out 2>&1
	equal $? 0 "the status of the demo" || cat out
	said '^  ended  *shell loop .*: 8 of 8 lines, as in the file$'
	said '^  open  *SEND .*: 9 of 9 lines, as in the file$'
	said '^  open  *clone, SEND .*: 9 of 9 lines, as in the file$'
	said '^  byte  *clone, SEND .*: 1 of 1 lines, as in the file$'
	said '^PASSED: 29 lines '
}

# Which the shell's loop cannot send, so it is not asked to.
test_loop_needs_newlines() {
	need_demo
	printf 'a\nb' > open
	umpsc-demo.sh -l open -b "$HERE/README.md" > out 2>&1
	equal $? 2 "the status of the demo" || cat out
	said 'its last line has no newline'
}

# receive WANTED...: what the check says where FILE was to come and "sent" was sent.
receive() {
	: > register
	exec 3> /dev/umpsc
	umpsc-demo receive "$@" register < /dev/umpsc 3>&- > out 2>&1 &
	receiver=$!
}

test_wrong_bytes() {
	need_demo
	seq 1 100 > file
	sed 's/^50$/5O/' file > sent
	receive -l file
	while IFS= read -r l; do printf '%s\n' "$l"; done < sent >&3
	exec 3>&-
	wait "$receiver"
	equal $? 1 "the status"
	said '^FAILED: line 50 of file is not what came in its place, which is this:$'
	said '^    5O$'
}

test_too_few_and_too_many() {
	need_demo
	seq 1 100 > file
	receive -l file
	head -n 97 file > sent
	while IFS= read -r l; do printf '%s\n' "$l"; done < sent >&3
	exec 3>&-
	wait "$receiver"
	equal $? 1 "the status"
	said '^FAILED: line 98 of file was lost, and what follows:$'

	receive -l file
	seq 1 103 > sent
	while IFS= read -r l; do printf '%s\n' "$l"; done < sent >&3
	exec 3>&-
	wait "$receiver"
	equal $? 1 "the status"
	said '^FAILED: file has 100 lines, and 103 arrived; the first too many:$'
	said '^    101$'
}

# A sender that is nobody's, and one whose process sends nothing.
test_stranger() {
	need_demo
	seq 1 100 > file
	receive -b file
	umpsc-demo send register file >&3 || fail "send"
	exec 3>&-
	wait "$receiver" || fail "$(cat out)"
	said '^PASSED: 100 lines '

	receive -b file
	echo stranger > /dev/umpsc
	umpsc-demo send register file >&3 || fail "send"
	exec 3>&-
	wait "$receiver"
	equal $? 1 "the status"
	said '^FAILED: /dev/umpsc: message 0 is from sender 2, which nobody knows$'
	said '^  file .*: 100 of 100 lines, as in the file$'

	receive -b file
	exec 3>&-
	wait "$receiver"
	equal $? 1 "the status"
	said '^FAILED: line 1 of file was lost, and what follows:$'
}

ktap_one "$@"
ktap_run good progress sabotage_drop sabotage_double sabotage_swap odd_lines \
	loop_needs_newlines wrong_bytes too_few_and_too_many stranger
