# SPDX-License-Identifier: Apache-2.0
# The build is meson's (meson.build); this file holds the commands that one wants to remember.

BUILD ?= build
PREFIX ?= /usr/local

# Root makes namespaces and VMs; nobody else has to build.
ROOT := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
VIV := $(strip $(ROOT) $(BUILD)/src/viv)
DEMO := import platform; print(platform.uname(), sum(range(10**6)))

.PHONY: all run test test-deep test-all fault chaos bench install uninstall clean help

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD)

$(BUILD)/build.ninja:
	@command -v meson >/dev/null || { echo "meson is missing: tools/deps.sh run installs what a build needs" >&2; exit 1; }
	@meson setup $(BUILD) --prefix=$(PREFIX)

run:
	@tools/deps.sh run
	@$(MAKE) --no-print-directory all
	@$(ROOT) $(BUILD)/src/vivd prepare
	@echo
	@echo "\$$ echo '$(DEMO)' | viv run -- python3 -"
	@echo '$(DEMO)' | $(VIV) run -- python3 -
	@echo
	@echo "That ran in a microVM of its own, which is gone again. What to try next:"
	@echo "  $(VIV) run -- bash -c 'uname -a; df -h /; id'"
	@echo "  $(VIV) create --name box --memory 1G && $(VIV) exec box -- free -m"
	@echo "  $(VIV) ls && $(VIV) inspect box && $(VIV) rm box"
	@echo "  make test          tests all of it"
	@echo "  make install       into $(PREFIX)"

test:
	@tools/deps.sh test
	@$(MAKE) --no-print-directory all
	@$(ROOT) tools/test.sh $(BUILD)

test-deep test-all:
	@tools/deps.sh all
	@$(MAKE) --no-print-directory all
	@$(ROOT) tools/test.sh $(@:test-%=--%) $(BUILD)

# Every operation meets every fault at every step, which takes an hour or two, in a world more than there are
# processors; FAULT="pause or resume" is a part of it. Prints the matrix; doc/theory/tests.md says how to read it.
fault:
	@tools/deps.sh test
	@$(MAKE) --no-print-directory all
	@$(ROOT) env VIV_BUILD=$(abspath $(BUILD)) VIV_MATRIX_ALL=1 PYTHONDONTWRITEBYTECODE=1 \
		/usr/bin/python3 -m pytest -q -p no:cacheprovider -n "$$(($$(nproc) + 1))" test/fault/test_matrix.py \
		-k "$(FAULT)"

# Operations, kills and full disks at random, over 20 sandboxes: CHAOS="--seed 7 --rounds 500".
chaos:
	@tools/deps.sh test
	@$(MAKE) --no-print-directory all
	@$(ROOT) env VIV_BUILD=$(abspath $(BUILD)) PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 test/fault/chaos.py $(CHAOS)

# Figures, against bare QEMU in the same run; doc/theory/bench.md says how to read them.
bench:
	@tools/deps.sh test
	@$(MAKE) --no-print-directory all
	@$(ROOT) env VIV_BUILD=$(BUILD) test/bench/bench.py

# DESTDIR: below that directory, for packages. uninstall removes what the last install put there.
install: all
	@$(if $(DESTDIR),,$(ROOT)) meson install -C $(BUILD) --no-rebuild $(if $(DESTDIR),--destdir "$(DESTDIR)")
	@$(if $(DESTDIR),true,echo "With systemd: systemd-sysusers; systemctl daemon-reload; systemctl enable --now vivd")

uninstall:
	@$(ROOT) ninja -C $(BUILD) uninstall

clean:
	@$(ROOT) rm -rf $(BUILD) $(BUILD)-gcc $(BUILD)-clang $(BUILD)-asan $(BUILD)-tsan $(BUILD)-fuzz

help:
	@echo "make            build into $(BUILD)/"
	@echo "make run        install what is needed, build, prepare, run a program in a microVM"
	@echo "make test       install what the tests need, build, test"
	@echo "make test-deep  sanitizers, fuzzing, static analysis"
	@echo "make test-all   both, with all that takes long: two to three hours"
	@echo "make fault      every fault at every step of every operation, as a matrix"
	@echo "make chaos      operations, kills and full disks at random, over 20 sandboxes"
	@echo "make bench      measure, against bare QEMU"
	@echo "make install    install into PREFIX ($(PREFIX)); uninstall undoes it"
	@echo "make clean      remove the build directories"
