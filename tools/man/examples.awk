# SPDX-License-Identifier: MIT
# The examples of a manual page as files, and what the page says that they print:
#	awk -v language=c -v prefix=DIR/NAME -f examples.awk PAGE
# writes PREFIX1, PREFIX2, ... and PREFIX1.out, ...  In the page,
# .\" EXAMPLE LANGUAGE or .\" OUTPUT stands ahead of the .Bd -literal that it is about.
$1 == ".\\\"" && $2 == "EXAMPLE" {
	wanted = ""
	if ($3 == language)
		wanted = prefix (++n)
	next
}
$0 == ".\\\" OUTPUT" {
	wanted = n ? (prefix n ".out") : ""
	next
}
wanted && /^\.Bd -literal/ {
	out = wanted
	wanted = ""
	next
}
out && /^\.Ed$/ {
	close(out)
	out = ""
	next
}
wanted {
	print FILENAME ":" NR ": EXAMPLE is not ahead of .Bd -literal" > "/dev/stderr"
	exit 1
}
out {
	sub(/^\\&/, "")
	gsub(/\\-/, "-")
	gsub(/\\\(aq/, "\047")
	gsub(/\\\(ga/, "`")
	gsub(/\\\(ti/, "~")
	gsub(/\\\(ha/, "^")
	gsub(/\\e/, "\\")
	print > out
}
