/* SPDX-License-Identifier: MIT */
/*
 * How messages lie in a stream of bytes
 */
#ifndef _FRAMING_H
#define _FRAMING_H

/* What separates the messages of a stream. */
enum framing {
	/* A line, its newline included, is one; receiving adds one where it lacks. */
	FRAMING_LINES,
	/* Each ends with a NUL, which is not part of it. */
	FRAMING_NUL,
	/* Ahead of each stands its length: 4 bytes, the most significant first. */
	FRAMING_PREFIXED,
	/* Nothing: the whole stream is one; received ones follow each other. */
	FRAMING_WHOLE,
	/* Receiving only: an object of JSON a line. */
	FRAMING_JSON,
};

/* Bytes of the length in FRAMING_PREFIXED. */
#define FRAMING_PREFIX 4

#endif /* _FRAMING_H */
