# SPDX-License-Identifier: MIT
# libumpsc, and the installation of what programs are written with.  Part of the Makefile.

PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
MANDIR ?= $(PREFIX)/share/man
INSTALL ?= install

LIB_VERSION := $(shell sed -n 's/^PACKAGE_VERSION="\(.*\)"/\1/p' dkms.conf)
# It changes when programs that were linked before do not work any more.
LIB_SONAME := libumpsc.so.0
LIB_STATIC := build/lib/libumpsc.a
LIB_SHARED := build/lib/libumpsc.so.$(LIB_VERSION)
LIB_DEPENDS := $(wildcard tools/lib/*.h include/uapi/linux/*.h)
LIB_CFLAGS := -std=c11 -O2 -g -fPIC -Wall -Wextra -Werror -Iinclude/uapi
LIB_LDFLAGS := -shared -Wl,-soname,$(LIB_SONAME) -Wl,--version-script,tools/lib/libumpsc.map -Wl,-z,defs

.PHONY: lib examples install-extra install-lib install-man uninstall-extra

lib: $(LIB_STATIC) $(LIB_SHARED) build/lib/libumpsc.pc

build/lib/umpsc.o: tools/lib/umpsc.c $(LIB_DEPENDS)
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(LIB_CFLAGS) $(CFLAGS) -c -o $@ $<

$(LIB_STATIC): build/lib/umpsc.o
	@rm -f $@
	$(AR) rcsD $@ $^

$(LIB_SHARED): build/lib/umpsc.o tools/lib/libumpsc.map
	$(CC) $(LIB_CFLAGS) $(CFLAGS) $(LIB_LDFLAGS) $(LDFLAGS) -o $@ $<

# The directories are those of the installation, so this is never up to date.
.PHONY: build/lib/libumpsc.pc
build/lib/libumpsc.pc: tools/lib/libumpsc.pc.in
	@mkdir -p $(@D)
	@sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' \
		-e 's|@VERSION@|$(LIB_VERSION)|' $< > $@

# The examples, and those of the manual pages with what they print: programs that run anywhere.
EXAMPLE_SOURCES := $(wildcard tools/examples/*.c)
EXAMPLE_SCRIPTS := $(wildcard tools/examples/*.py tools/examples/*.sh)
EXAMPLES := $(EXAMPLE_SOURCES:tools/examples/%.c=build/examples/%) $(EXAMPLE_SCRIPTS:tools/%=build/%)
RUSTC ?= rustc
ifneq ($(shell command -v $(RUSTC)),)
EXAMPLES += build/examples/channel
endif
MAN_EXAMPLES := $(patsubst tools/man/%.3,build/examples/man-%,$(wildcard tools/man/*.3))

examples: $(EXAMPLES) $(MAN_EXAMPLES)

build/examples/uring: EXAMPLE_LIBRARIES := -luring
$(filter $(EXAMPLE_SOURCES:tools/examples/%.c=build/examples/%),$(EXAMPLES)): build/examples/%: tools/examples/%.c $(LIB_STATIC) $(LIB_DEPENDS)
	@mkdir -p $(@D)
	$(CC) $(USER_CFLAGS) -std=gnu11 -Itools/lib -static -o $@ $< $(LIB_STATIC) $(EXAMPLE_LIBRARIES)

$(EXAMPLE_SCRIPTS:tools/%=build/%): build/%: tools/%
	@mkdir -p $(@D)
	@cp $< $@

build/examples/channel: tools/examples/channel.rs
	@mkdir -p $(@D)
	$(RUSTC) --edition 2021 -O -C target-feature=+crt-static -C strip=symbols -o $@ $<

$(MAN_EXAMPLES): build/examples/man-%: tools/man/%.3 tools/man/examples.awk $(LIB_STATIC) $(LIB_DEPENDS)
	@mkdir -p $(@D)
	@awk -v language=c -v prefix=$@- -f tools/man/examples.awk $<
	$(CC) $(USER_CFLAGS) -Itools/lib -static -o $@ -x c $@-1 -x none $(LIB_STATIC)

install-extra: install-lib install-man

install-lib: lib
	$(INSTALL) -d '$(DESTDIR)$(LIBDIR)/pkgconfig' '$(DESTDIR)$(INCLUDEDIR)/linux'
	$(INSTALL) -m 644 $(LIB_STATIC) $(LIB_SHARED) '$(DESTDIR)$(LIBDIR)'
	ln -sf $(notdir $(LIB_SHARED)) '$(DESTDIR)$(LIBDIR)/$(LIB_SONAME)'
	ln -sf $(LIB_SONAME) '$(DESTDIR)$(LIBDIR)/libumpsc.so'
	$(INSTALL) -m 644 tools/lib/umpsc.h '$(DESTDIR)$(INCLUDEDIR)'
	$(INSTALL) -m 644 include/uapi/linux/umpsc.h '$(DESTDIR)$(INCLUDEDIR)/linux'
	$(INSTALL) -m 644 build/lib/libumpsc.pc '$(DESTDIR)$(LIBDIR)/pkgconfig'
	[ -n '$(DESTDIR)' ] || [ "$$(id -u)" != 0 ] || ldconfig

# A page of several calls is found by the name of each: man finds pages by their file's name.
install-man:
	@set -e; for page in tools/man/*.[1-9]; do \
		section=$${page##*.}; dir='$(DESTDIR)$(MANDIR)'/man$$section; file=$${page##*/}; \
		echo "$(INSTALL) -m 644 $$page $$dir"; \
		$(INSTALL) -d "$$dir"; $(INSTALL) -m 644 "$$page" "$$dir"; \
		sed -n '/^\.Sh NAME/,/^\.Nd/s/^\.Nm \([^ ]*\).*/\1/p' "$$page" | while read -r name; do \
			[ "$$name.$$section" = "$$file" ] || ln -sf "$$file" "$$dir/$$name.$$section"; \
		done; \
	done

# The files that install-extra puts there.  Directories stay, as others may use them.
uninstall-extra:
	@set -e; dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
		$(MAKE) -s install-extra DESTDIR="$$dir" > /dev/null; \
		cd '$(DESTDIR)/'; find "$$dir" ! -type d -printf './%P\0' | xargs -0 rm -fv --
	[ -n '$(DESTDIR)' ] || [ "$$(id -u)" != 0 ] || ldconfig
