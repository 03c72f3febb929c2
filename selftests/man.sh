#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# The manual pages: clean, complete, and their examples work.  Runs on this side of
# the virtual machine and needs no module.
# shellcheck disable=SC2317 # ktap_run calls the tests
set -eu

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=tools/ktap.sh
. "$ROOT/tools/ktap.sh"

MAN=$ROOT/tools/man
HEADER=$ROOT/include/uapi/linux/umpsc.h
LIBRARY=$ROOT/tools/lib
mapfile -t PAGES < <(cd "$MAN" && ls -- *.[1-9])
mapfile -t LIBRARY_PAGES < <(cd "$MAN" && ls -- *.3)
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

need() {
	command -v "$1" > /dev/null || skip "there is no $1"
}

# A test that writes files does so in a directory of its own.
fresh() {
	cd "$(mktemp -d -p "$WORK")"
}

# lint PAGE: what mandoc says of it.  All pages are given, as they refer to each
# other.  Which pages of others this machine has is no matter of theirs.
lint() {
	(cd "$MAN" && mandoc -Tlint -Wall "${PAGES[@]}" 2>&1) |
		awk -v page="mandoc: $1:" 'index($0, page) == 1 && (!/referenced manual not found/ || /: Xr (lib)?umpsc/)'
}

# The text of a page, as one reads it.
text() {
	mandoc -Tascii "$MAN/$1" 2> /dev/null | sed 's/.\x08//g'
}

# appear PAGE WORD...: each stands there as a word of its own.
appear() {
	local page=$1 word missing=0
	shift
	[ $# -gt 0 ] || fail "nothing to look for in $page"
	text "$page" > text
	for word; do
		grep -q -E "(^|[^A-Za-z0-9_])$word([^A-Za-z0-9_]|\$)" text || {
			echo "$word is not in $page"
			missing=1
		}
	done
	[ "$missing" = 0 ] || fail "$page is not complete"
}

# examples LANGUAGE PAGE: its examples, as example1, ..., and example1.out
examples() {
	awk -v language="$1" -v prefix=example -f "$MAN/examples.awk" "$MAN/$2"
}

header() {
	sed -n "$1" "$HEADER" | sort -u
}

lint_is_silent() {
	need mandoc
	fresh
	lint "$1" > said
	[ ! -s said ] || { cat said; fail "mandoc -Tlint -Wall $1"; }
	# It must have been able to say something.
	printf '.Sh\n' > broken.4
	mandoc -Tlint -Wall broken.4 > said 2>&1 || true
	[ -s said ] || fail "mandoc says nothing about a page that is none"
}

for page in "${PAGES[@]}"; do
	eval "test_${page//./_}_lint_is_silent() { lint_is_silent $page; }"
done

test_pages_have_a_licence() {
	for page in "${PAGES[@]}"; do
		equal "$(head -n 1 "$MAN/$page")" '.\" SPDX-License-Identifier: MIT' "$page"
	done
}

# Every ioctl, flag and constant.
test_macros_appear() {
	need mandoc
	fresh
	mapfile -t words < <(header 's/^#define[[:space:]]*\(UMPSC_[A-Z0-9_]*\).*/\1/p')
	[ "${#words[@]}" -gt 30 ] || fail "only ${#words[@]} macros in the header"
	appear umpsc.4 "${words[@]}"
}

test_structures_appear() {
	need mandoc
	fresh
	mapfile -t words < <(header 's/^struct \(umpsc_[a-z_]*\) {$/\1/p')
	[ "${#words[@]}" -gt 8 ] || fail "only ${#words[@]} structures in the header"
	appear umpsc.4 "${words[@]/#/struct }"
}

# Each structure as a whole: the page's members are the header's, in their order.
members() {
	sed -e 's|/\*.*||' -e 's/[[:space:]][[:space:]]*/ /g' -e 's/^ //' -e 's/ $//' |
		awk '/^struct umpsc_[a-z_]* \{$/ { name = $2; next } /^\};/ { name = "" }
			name && /;$/ { print name ": " $0 }' | sort -s -k 1,1
}

test_members_are_the_headers() {
	need mandoc
	fresh
	members < "$HEADER" > want
	text umpsc.4 | members > got
	[ -s want ] || fail "no members in the header"
	diff want got || fail "structures differ"
}

test_errnos_of_the_header_appear() {
	need mandoc
	need "${CC:-cc}"
	fresh
	# Words in capitals that <errno.h> knows.
	echo '#include <errno.h>' | ${CC:-cc} -E -dM - | sed -n 's/^#define \(E[A-Z0-9]*\) .*/\1/p' | sort -u > known
	grep -o -w 'E[A-Z0-9]*' "$HEADER" | sort -u > named
	mapfile -t words < <(comm -12 known named)
	[ "${#words[@]}" -gt 15 ] || fail "only ${#words[@]} errnos in the header"
	appear umpsc.4 "${words[@]}"
}

# What the module itself can return, whether the header names it or not; what is for
# callers in the kernel or its parts only is not for users.
test_errnos_of_the_module_appear() {
	need mandoc
	fresh
	mapfile -t words < <(sed 's|^ \*.*||; s|/\*.*||' "$ROOT"/umpsc_*.c | grep -o -w -e '-E[A-Z0-9]*' |
		sed 's/^-//; s/^ERESTARTSYS$/EINTR/' | sort -u)
	[ "${#words[@]}" -gt 15 ] || fail "only ${#words[@]} errnos in the module"
	appear umpsc.4 "${words[@]}"
}

test_module_parameters_appear() {
	need mandoc
	fresh
	mapfile -t words < <(sed -n 's/^module_param\(_named\)*(\([a-z_]*\),.*/\2/p' "$ROOT"/umpsc_*.c | sort -u)
	[ "${#words[@]}" -gt 5 ] || fail "only ${#words[@]} parameters in the sources"
	appear umpsc.4 "${words[@]}"
	# As a parameter, not only as some word.
	for word in "${words[@]}"; do
		grep -q -E "^\.It Cm ([a-z_]+ , )*$word( ,|\$)" "$MAN/umpsc.4" || fail "$word is not in the list of parameters"
	done
}

test_fdinfo_lines_appear() {
	need mandoc
	fresh
	mapfile -t words < <({
		sed -n 's/^[[:space:]]*UMPSC_SHOW("\([a-z-]*\)".*/umpsc-\1/p' "$ROOT/umpsc_mod.c"
		sed -n 's/.*seq_[a-z]*(m, "\(umpsc-[a-z]\{1,\}\):.*/\1/p' "$ROOT/umpsc_mod.c"
	} | sort -u)
	[ "${#words[@]}" -gt 20 ] || fail "only ${#words[@]} lines of fdinfo in the sources"
	appear umpsc.4 "${words[@]}"
}

# Each file of a node in sysfs.
test_attributes_appear() {
	need mandoc
	fresh
	mapfile -t words < <(sed -n 's/^UMPSC_ATTR[A-Z_]*(\([a-z_]*\),.*/\1/p' "$ROOT/umpsc_mod.c" | sort -u)
	[ "${#words[@]}" -gt 25 ] || fail "only ${#words[@]} attributes in the sources"
	appear umpsc.4 "${words[@]}"
}

c_examples_compile() {
	local n=0 file
	need "${CC:-cc}"
	fresh
	examples c "$1"
	for file in example*[0-9]; do
		[ -s "$file" ] || fail "there is no C example in $1"
		n=$((n + 1))
		${CC:-cc} -x c -std=c11 -O2 -Wall -Wextra -Werror -I "$ROOT/include/uapi" -I "$LIBRARY" -c -o prog "$file" || {
			cat "$file"
			fail "C example $n of $1"
		}
	done
	equal "$n" "$(grep -c '^#include <\(linux/\)*umpsc.h>' "$MAN/$1")" "C examples of $1 that were compiled"
}

test_umpsc_4_c_examples_compile() { c_examples_compile umpsc.4; }
test_umpsc_7_c_examples_compile() { c_examples_compile umpsc.7; }

# Those of the library run in the virtual machine, in selftests/examples.sh, and say
# what they print.
test_library_c_examples_compile() {
	local page
	for page in "${LIBRARY_PAGES[@]}"; do
		c_examples_compile "$page"
		[ -s example1.out ] || fail "$page does not say what its example prints"
	done
}

# The prototypes of libumpsc as "type name(arguments)", but for those that the
# inline functions stand for.
header_prototypes() {
	tr '\n' ' ' < "$LIBRARY/umpsc.h" | sed 's|/\*[^*]*\*\+\([^/*][^*]*\*\+\)*/|;|g' | tr ';{}' '\n\n\n' |
		sed -n 's/^[[:space:]]*\(static inline \)*\([a-z].* \**umpsc_[a-z_]*([^()]*)\)[[:space:]]*$/\2/p' |
		sed 's/[[:space:]][[:space:]]*/ /g; s/( /(/g' | grep -v '_sized(' | grep -v '^return ' | sort
}

# The same of the pages, each with its page in front.
page_prototypes() {
	local page
	for page in "${LIBRARY_PAGES[@]}"; do
		awk -v page="$page" '
		/^\.Sh / { on = $2 == "SYNOPSIS" }
		!on { next }
		/^\.Ft / {
			type = substr($0, 5)
			if (type !~ /\*$/)
				type = type " "
		}
		/^\.Fn / {
			line = substr($0, 5)
			name = line
			sub(/ .*/, "", name)
			sub(/^[^ ]* "/, "", line)
			sub(/"$/, "", line)
			gsub(/" "/, ", ", line)
			print page " " type name "(" line ")"
		}' "$MAN/$page"
	done
}

test_prototypes_are_the_headers() {
	fresh
	header_prototypes > want
	[ "$(wc -l < want)" -gt 40 ] || fail "only $(wc -l < want) prototypes in the header"
	page_prototypes > pages
	cut -d ' ' -f 2- pages | sort > got
	diff want got || fail "prototypes differ"
	# A page is found by the names that it begins with, and they are those of its synopsis.
	while read -r page prototype; do
		prototype=${prototype%%(*}
		echo "$page ${prototype##*[ *]}"
	done < pages | sort > want
	for page in "${LIBRARY_PAGES[@]}"; do
		sed -n '/^\.Sh NAME/,/^\.Nd/s/^\.Nm \([^ ]*\).*/\1/p' "$MAN/$page" | sed "s/^/$page /"
	done | grep -v ' libumpsc$' | sort > got
	diff want got || fail "names differ"
}

# Each call is found from libumpsc(3), and says whether a signal handler may use it.
test_library_pages_are_complete() {
	local page
	fresh
	for page in "${LIBRARY_PAGES[@]}"; do
		grep -q 'signal-safe' "$MAN/$page" || fail "$page says nothing of signals"
		[ "$page" = libumpsc.3 ] || grep -q "^\.It Xr ${page%.3} 3\$" "$MAN/libumpsc.3" || fail "libumpsc.3 lacks $page"
		[ "$page" = libumpsc.3 ] || grep -q '^\.Xr libumpsc 3' "$MAN/$page" || fail "$page does not lead to libumpsc.3"
	done
}

# The structures that the library has itself, as the page shows them.
test_library_structures_are_the_headers() {
	need mandoc
	fresh
	members < "$LIBRARY/umpsc.h" > want
	text umpsc_batch_add.3 | members > got
	[ -s want ] || fail "no members in the header"
	diff want got || fail "structures differ"
}

# What the library itself can set, and what it says of each.
test_errnos_of_the_library_appear() {
	local word
	need mandoc
	fresh
	grep -o 'fail(E[A-Z]*)' "$LIBRARY/umpsc.c" | sed 's/fail(\(.*\))/\1/' | sort -u > words
	[ "$(wc -l < words)" -gt 8 ] || fail "only $(wc -l < words) errnos in the library"
	for page in "${LIBRARY_PAGES[@]}"; do
		text "$page"
	done > texts
	while read -r word; do
		grep -q -w "$word" texts || fail "$word is in no page"
	done < words
}

shell_examples_parse() {
	local shell file
	fresh
	examples sh "$1"
	for file in example*; do
		[ -s "$file" ] || fail "there is no shell example in $1"
		for shell in bash dash; do
			command -v "$shell" > /dev/null || continue
			"$shell" -n "$file" || fail "$shell does not take $file of $1"
		done
	done
}

test_umpsc_4_shell_examples_parse() { shell_examples_parse umpsc.4; }
test_umpsc_7_shell_examples_parse() { shell_examples_parse umpsc.7; }

lints=()
for page in "${PAGES[@]}"; do
	lints+=("${page//./_}_lint_is_silent")
done
ktap_run pages_have_a_licence "${lints[@]}" \
	macros_appear structures_appear members_are_the_headers \
	errnos_of_the_header_appear errnos_of_the_module_appear \
	module_parameters_appear fdinfo_lines_appear attributes_appear \
	prototypes_are_the_headers library_structures_are_the_headers library_pages_are_complete \
	errnos_of_the_library_appear library_c_examples_compile \
	umpsc_4_c_examples_compile umpsc_7_c_examples_compile \
	umpsc_4_shell_examples_parse umpsc_7_shell_examples_parse
