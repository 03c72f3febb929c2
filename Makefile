# SPDX-License-Identifier: MIT
# The module itself is described in Kbuild; this file is for people and tools.

KERNELDIR ?= /lib/modules/$(shell uname -r)/build

# Each kernel's module is built in a directory of links to the sources, so that
# builds for several kernels stand side by side and the sources stay clean.
MODULE_NAME ?= $(notdir $(patsubst %/build,%,$(KERNELDIR)))
MODULE_DIR := build/$(MODULE_NAME)
MODULE_SOURCES := Kbuild $(wildcard umpsc_*.c umpsc_*.h) include
MODULE_DEPENDS := $(filter-out include,$(MODULE_SOURCES)) $(shell find include -type f 2> /dev/null)

# The headers of 6.12 ask for pahole, to describe the module's types; it works without.
ifeq ($(shell command -v pahole),)
KBUILD_FLAGS += CONFIG_DEBUG_INFO_BTF_MODULES=
endif

USER_CFLAGS := -std=c11 -O2 -g -Wall -Wextra -Werror -Iinclude/uapi -Iselftests -pthread
TEST_SOURCES := $(shell grep -l -s -E 'TEST_HARNESS_MAIN|^int main' selftests/*.c)
TEST_HELPERS := $(filter-out $(TEST_SOURCES),$(wildcard selftests/*.c))
TEST_PROGRAMS := $(TEST_SOURCES:selftests/%.c=build/selftests/%)
# The same for 32-bit callers, as NAME32: what is about calls and their data, not time.
TEST_PROGRAMS_32 := $(patsubst %,%32,$(filter %/abi %/creds %/library %/transfer,$(TEST_PROGRAMS)))
TOOL_PROGRAMS := $(patsubst tools/demo/%.c,build/tools/%,$(wildcard tools/demo/*.c))
USER_DEPENDS := $(wildcard include/uapi/linux/*.h selftests/*.h selftests/*/*.h tools/demo/*.h)

.DELETE_ON_ERROR:
.PHONY: module modules_install programs selftests tools demo check check-debug soak mutants bench vm lint fetch clean help

module: $(MODULE_DIR)/umpsc.ko

help:
	@echo 'make            build umpsc.ko for KERNELDIR (the running kernel) in $(MODULE_DIR)'
	@echo 'make demo       several processes stream text files through /dev/umpsc, in a virtual machine'
	@echo '                (SABOTAGE=drop|double|swap spoils one line, and it must fail)'
	@echo 'make check      all tests on Debian 6.1 and 6.12, in virtual machines'
	@echo 'make check-debug   all tests on a 6.12 that watches itself, with faults injected'
	@echo '                (built from Debian sources, about 10 minutes the first time;'
	@echo '                MODULE_ONLY=1: without those of shell, command and library)'
	@echo 'make soak       both of these, and all tests on PREEMPT_RT, and while a timer sends signals,'
	@echo '                three times (ROUNDS=...): hours'
	@echo 'make bench      what a message costs, against pipes, sockets and queues, on both kernels'
	@echo '                (NATIVE=1: on this one, in nanoseconds; PLOT=1: draw it; BENCH=...: options)'
	@echo 'make mutants    break the module on purpose, and see the tests notice (MUTANTS=NAME...)'
	@echo 'make vm         a shell in a virtual machine with the module loaded (KERNEL=6.1|6.12|rt|debug|ABI)'
	@echo 'make lint       checkpatch, clang-format, sparse, warnings, shellcheck'
	@echo 'make fetch      fill the cache (~/.cache/umpsc) with the current kernels; it can be copied'
	@echo 'make lib        libumpsc, shared and static, in build/lib'
	@echo 'make modules_install   install umpsc.ko for KERNELDIR'
	@echo 'make install-extra     install the command, the library, the headers and the man pages (PREFIX, DESTDIR)'
	@echo 'make uninstall-extra   remove what install-extra has installed there'
	@echo 'make clean      remove build/'

$(MODULE_DIR)/umpsc.ko: $(MODULE_DEPENDS)
	@test -e '$(KERNELDIR)/Makefile' || { \
		echo 'No kernel headers in $(KERNELDIR) (Debian: linux-headers-$(shell uname -r)).' >&2; \
		echo 'KERNELDIR=... builds for another kernel; "make vm" and "make check" need none.' >&2; \
		exit 1; }
	@mkdir -p $(MODULE_DIR)
	@ln -sfn $(MODULE_SOURCES:%=$(CURDIR)/%) $(MODULE_DIR)/
	+$(MAKE) -C $(KERNELDIR) M=$(CURDIR)/$(MODULE_DIR) $(KBUILD_FLAGS) modules
	@touch $@

# Without System.map, which Debian's headers have not, kbuild leaves depmod to others.
modules_install: module
	+$(MAKE) -C $(KERNELDIR) M=$(CURDIR)/$(MODULE_DIR) modules_install
	[ -n '$(INSTALL_MOD_PATH)' ] || depmod "$$(cat $(KERNELDIR)/include/config/kernel.release)"

programs: selftests tools examples build/tools/umpsc-bench
selftests: $(TEST_PROGRAMS) $(TEST_PROGRAMS_32)
tools: $(TOOL_PROGRAMS)

include tools/lib/lib.mk
include tools/umpsc/command.mk

build/selftests/uring build/selftests/sweep: TEST_LIBRARIES := -luring
build/selftests/library build/selftests/library32: USER_CFLAGS += -Itools/lib -Wl,--wrap=malloc,--wrap=realloc,--wrap=free
build/selftests/library: TEST_LIBRARIES := $(LIB_STATIC)
build/selftests/library: $(LIB_STATIC)
build/selftests/library32: TEST_LIBRARIES := tools/lib/umpsc.c
build/selftests/library32: tools/lib/umpsc.c $(LIB_DEPENDS)
$(TEST_PROGRAMS): build/selftests/%: selftests/%.c $(TEST_HELPERS) $(USER_DEPENDS)
	@mkdir -p $(@D)
	$(CC) $(USER_CFLAGS) -static -o $@ $< $(TEST_HELPERS) $(TEST_LIBRARIES)

$(TEST_PROGRAMS_32): build/selftests/%32: selftests/%.c $(TEST_HELPERS) $(USER_DEPENDS)
	@mkdir -p $(@D)
	$(CC) -m32 $(USER_CFLAGS) -static -o $@ $< $(TEST_HELPERS) $(TEST_LIBRARIES)

$(TOOL_PROGRAMS): build/tools/%: tools/demo/%.c $(USER_DEPENDS)
	@mkdir -p $(@D)
	$(CC) $(USER_CFLAGS) -static -o $@ $<

# Not one of the tools: it needs liburing-dev.
build/tools/umpsc-bench: $(wildcard tools/bench/*.[ch]) $(USER_DEPENDS)
	@mkdir -p $(@D)
	$(CC) $(USER_CFLAGS) -static -o $@ $(filter tools/bench/%.c,$^) -luring

# Not one of the tools: it needs liburcu-dev.
build/tools/umpsc-queue-bench: tools/bench/queue/umpsc-queue-bench.c include/umpsc_queue.h selftests/queue/shim.h
	@mkdir -p $(@D)
	$(CC) $(USER_CFLAGS) -Iinclude -Iselftests/queue -o $@ $<

demo:
	@tools/demo/run $(SABOTAGE)

check:
	@tools/check

check-debug:
	@tools/check $(if $(MODULE_ONLY),-m) debug

soak:
	@tools/soak $(ROUNDS)

mutants:
	@tools/mutants $(MUTANTS)

bench:
	@tools/bench/run $(if $(NATIVE),--native) $(if $(PLOT),--plot) $(BENCH)

vm:
	@tools/vm/shell $(KERNEL)

lint:
	@tools/lint

fetch:
	@tools/vm/fetch

clean:
	rm -rf build
