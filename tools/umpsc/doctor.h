/* SPDX-License-Identifier: MIT */
/*
 * What umpsc doctor looks at, and how it reports
 */
#ifndef _DOCTOR_H
#define _DOCTOR_H

#include "command.h"

/* How bad a finding is. */
enum severity {
	/* It works now, but will not for ever, or not for everyone. */
	WARNING,
	/* It does not work. */
	PROBLEM,
};

/**
 * check_ok - report that something is as it should be
 * @format: what
 */
void check_ok(const char *format, ...) PRINTF(1, 2);

/**
 * check_found - report a trouble
 * @severity: how bad it is
 * @id: its name, as in umpsc(1)
 * @format: what is wrong
 */
void check_found(enum severity severity, const char *id, const char *format,
		 ...) PRINTF(3, 4);

/**
 * check_remedy - and what to do about it, line by line
 * @format: a line
 */
void check_remedy(const char *format, ...) PRINTF(1, 2);

/* The kernel, the module, its installation and signature. */
void check_module(void);

/* Nodes: their device files, and who may use them. */
void check_nodes(void);

/* What stops sends. */
void check_limits(void);

#endif /* _DOCTOR_H */
