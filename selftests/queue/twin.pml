/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which of its twins a model is: 0, sound, or as the environment says
 *
 * The model lists them as "TWIN number name: what is broken".
 */
c_decl {
\#include <stdlib.h>
};

byte twin;

/* To be called first, in an atomic of init. */
inline twin_init()
{
	c_code {
		now.twin = getenv("TWIN") ? atoi(getenv("TWIN")) : 0;
	}
}
