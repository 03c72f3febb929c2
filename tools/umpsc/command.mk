# SPDX-License-Identifier: MIT
# umpsc, the command, and its installation.  Part of the Makefile, behind tools/lib/lib.mk.

BINDIR ?= $(PREFIX)/bin
BASHCOMPDIR ?= $(PREFIX)/share/bash-completion/completions

COMMAND := build/tools/umpsc
COMMAND_OBJECTS := $(patsubst tools/umpsc/%.c,build/umpsc/%.o,$(wildcard tools/umpsc/*.c))
COMMAND_CFLAGS := -std=c11 -D_GNU_SOURCE -O2 -g -Wall -Wextra -Werror -Iinclude/uapi -Itools/lib \
	-DVERSION='"$(LIB_VERSION)"'

.PHONY: install-command

tools: $(COMMAND)

$(COMMAND_OBJECTS): build/umpsc/%.o: tools/umpsc/%.c $(wildcard tools/umpsc/*.h) $(LIB_DEPENDS)
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(COMMAND_CFLAGS) $(CFLAGS) -c -o $@ $<

# Static, so that it runs wherever the module does.
$(COMMAND): $(COMMAND_OBJECTS) $(LIB_STATIC)
	@mkdir -p $(@D)
	$(CC) $(COMMAND_CFLAGS) $(CFLAGS) $(LDFLAGS) -static -o $@ $^

install-extra: install-command

install-command: $(COMMAND)
	$(INSTALL) -d '$(DESTDIR)$(BINDIR)' '$(DESTDIR)$(BASHCOMPDIR)'
	$(INSTALL) -m 755 $(COMMAND) '$(DESTDIR)$(BINDIR)'
	$(INSTALL) -m 644 tools/umpsc/umpsc.bash-completion '$(DESTDIR)$(BASHCOMPDIR)/umpsc'
