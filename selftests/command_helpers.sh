# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=sh
# What the tests of umpsc, the command, share; they source it.  Each test begins with a
# module that has counted nothing yet.
# shellcheck source=selftests/ktap_helpers.sh
. "$(dirname "$0")/ktap_helpers.sh"

# shellcheck disable=SC2034 # some use it
HERE=$(cd "$(dirname "$0")" && pwd)
CLASS=/sys/class/umpsc

# ends STATUS COMMAND...: what it prints goes to "out" and "error".
ends() {
	want=$1
	shift
	"$@" > out 2> error < /dev/null
	got=$?
	[ "$got" = "$want" ] || {
		cat out error
		fail "status $got, should be $want: $*"
	}
}

# says FILE PATTERN...: each is in the file.
says() {
	file=$1
	shift
	for pattern; do
		grep -q -e "$pattern" "$file" || {
			cat "$file"
			fail "'$pattern' is not in $file"
		}
	done
}

# What sysfs says of a node's figure.
sysfs() {
	cat "$CLASS/umpsc-$1/$2"
}

is() {
	[ "$(sysfs "$1" "$2")" = "$3" ]
}

claimed() {
	is "$1" claimed 1
}

lines() {
	[ "$(wc -l < "$1")" = "$2" ]
}

# A node of the test's own, made with these options.
node() {
	umpsc create "$@" > made || fail "umpsc create $*"
}

as_nobody() {
	su -s /bin/sh nobody -c "$*"
}

# Does Python, whose notation JSON nearly is, take it?  Then print the expression @2 of it.
json() {
	python3 -X utf8 -c '
import sys
j = eval(open(sys.argv[1], encoding="utf-8").read(), {"true": True, "false": False, "null": None})
print(eval(sys.argv[2]))' "$1" "$2" || { cat "$1"; fail "not JSON, or not $2"; }
}

nodes_remove() {
	for path in "$CLASS"/umpsc-*; do
		[ ! -e "$path" ] || umpsc rm -f "${path#"$CLASS/umpsc-"}"
	done
}

# What waits in a node, or is about to, keeps the module.
ktap_after() {
	nodes_remove
}

# As ktap_one and ktap_run: command_run "$@" -- TEST...
command_run() {
	if [ "$1" = --test ]; then
		rmmod umpsc && module_load || exit 1
		ktap_one "$@"
	fi
	shift
	ktap_run "$@"
}
