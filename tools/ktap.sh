# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# For tests on this side of the virtual machine: a test is a function, named test_NAME; it passes
# if it returns 0, and skips with "skip REASON".  What it prints goes to a log, shown if it fails.

ktap_skip_status=4

fail() {
	echo "$*"
	exit 1
}

skip() {
	echo "$*"
	exit "$ktap_skip_status"
}

# equal GOT WANT WHAT
equal() {
	[ "$1" = "$2" ] || fail "$3: '$1', should be '$2'"
}

contains() {
	grep -q -a -e "$2" "$1" || { cat "$1"; fail "'$2' is not in $1"; }
}

# Run the tests NAME..., each in a subshell that ends where a command fails.
ktap_run() {
	local name number=0 failures=0 status log
	log=$(mktemp)
	echo "KTAP version 1"
	echo "1..$#"
	for name; do
		number=$((number + 1))
		# In a condition, -e would not end the test.
		set +e
		(
			set -e
			"test_$name"
		) > "$log" 2>&1 < /dev/null
		status=$?
		set -e
		case $status in
		0) echo "ok $number $name" ;;
		"$ktap_skip_status") echo "ok $number $name # SKIP $(tail -n 1 "$log")" ;;
		*)
			tr -d '\000' < "$log" | sed 's/^/# /'
			echo "not ok $number $name"
			failures=$((failures + 1))
			;;
		esac
	done
	rm -f "$log"
	[ "$failures" = 0 ]
}
