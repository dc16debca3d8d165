#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# usage: tools/test.sh [--deep | --all] BUILD
#
# Runs the tests of a build directory; the last line sums them up. --deep looks deeper instead: builds
# with -Werror, with sanitizers and for fuzzing, in directories beside it, with their tests, and static
# analysis. --all does both, and the tests with all that takes long.
set -u

usage() {
	echo "usage: tools/test.sh [--deep | --all] BUILD" >&2
	exit 2
}

what=
case ${1-} in
--deep | --all) what=$1 && shift ;;
esac
if [ $# != 1 ] || [ ! -e "$1/build.ninja" ]; then
	usage
fi
root=$(cd "$(dirname "$0")/.." && pwd)
build=$(cd "$1" && pwd)
export VIV_BUILD=$build VIV_TEST_STATE=${VIV_TEST_STATE:-$build/test-state}
export PYTHONDONTWRITEBYTECODE=1
# Debian's own, which has the packages that deps.sh installs.
python=/usr/bin/python3
fuzz_seconds=${FUZZ_SECONDS:-30}
# The parts that take longest, the longest first.
slowest=(test/sdk test/fault/test_{checkpoint,snapshot,pause}_faults.py test/integ/test_{guest_limits,daemon,warm}.py
	test/fault/test_create.py test/integ/test_{fork,chain,checkpoint}.py test/fault/test_{flatten,ready}_faults.py
	test/integ/test_{metrics,ready,snapshot,rest,flatten,death,idle}.py test/fault/test_{pool,matrix}.py
	test/integ/test_{room,tls,proxy,cycles}.py)
passed=0 failed=0 skipped=0

# Adds what a run gave: counts, and its exit code, which may tell of more than the counts.
add() {
	local counts=$1 code=$2 p f s

	read -r p f s <<<"$counts"
	if [ "$code" != 0 ] && [ "$f" = 0 ]; then
		f=1
	fi
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

# Passed, failed and skipped in a log of meson: the tests in each program, or the program itself.
count_meson() {
	"$python" - "$1" <<'END'
import json, re, sys
passed = failed = skipped = 0
try:
    runs = [json.loads(line) for line in open(sys.argv[1])]
except OSError:
    runs = []
for run in runs:
    checks = re.findall(r"Checks: (\d+), Failures: (\d+), Errors: (\d+)", run.get("stdout", ""))
    bad = sum(int(f) + int(e) for _, f, e in checks)
    if run["result"] == "SKIP":
        skipped += 1
    elif run["result"] == "OK":
        passed += sum(int(n) for n, _, _ in checks) or 1
    else:
        passed += sum(int(n) for n, _, _ in checks) - bad
        failed += max(bad, 1)
print(passed, failed, skipped)
END
}

# The same of all reports of pytest in a directory.
count_pytest() {
	"$python" - "$1" <<'END'
import pathlib, sys, xml.etree.ElementTree as tree
def suites_of(report):
    try:
        return list(tree.parse(report).getroot().iter("testsuite"))
    except tree.ParseError:
        return []
suites = [s for report in pathlib.Path(sys.argv[1]).glob("*.xml") for s in suites_of(report)]
def total(name):
    return sum(int(s.get(name, 0)) for s in suites)
failed, skipped = total("failures") + total("errors"), total("skipped")
print(max(total("tests") - failed - skipped, 0), failed, skipped)
END
}

# meson's tests of a build directory: how many times longer than usual they may take, what meson is run by,
# if by anything.
run_meson() {
	local dir=$1 patience=$2 code=0

	shift 2
	echo "== unit tests ($dir)"
	rm -f "$dir/meson-logs/testlog.json"
	CK_TIMEOUT_MULTIPLIER=$patience "$@" meson test -C "$dir" --no-rebuild --print-errorlogs \
		--timeout-multiplier="$patience" --suite unit --suite fuzz || code=$?
	add "$(count_meson "$dir/meson-logs/testlog.json")" "$code"
}

# What of some folders is run by itself: the folders whose tests share a daemon or are short, else
# their files. What takes long comes first: the slowest by name, the others as nearly as sizes tell.
parts_of() {
	local folder part all

	all=$(for folder in "$@"; do
		case $folder in
		test/sdk | test/lint) echo "$folder" ;;
		*) (cd "$root" && ls -S "$folder"/test_*.py) ;;
		esac
	done)
	{
		for part in "${slowest[@]}"; do
			grep -xF "$part" <<<"$all"
		done
		echo "$all"
	} | awk '!seen[$0]++'
}

# Runs pytest on one part, and shows what it said when it is done.
run_part() {
	local dir=$1 part=$2 name=${2//\//-} code=0

	(cd "$root" && VIV_BUILD=$dir "$python" -m pytest -q -rs -p no:cacheprovider \
		--junitxml="$dir/reports/$name.xml" "$part") >"$dir/reports/$name.log" 2>&1 || code=$?
	sed -e "1i -- $part" -e '/generated xml file/d' "$dir/reports/$name.log"
	return "$code"
}

# A part more at a time than there are processors, since much of a test is a wait: what they are called
# together, the build directory, the folders.
run_pytest() {
	local name=$1 dir=$2 code=0

	shift 2
	echo "== $name"
	if ! "$dir/src/vivd" prepare --state-dir="$VIV_TEST_STATE"; then
		add "0 1 0" 1
		return
	fi
	rm -rf "$dir/reports"
	mkdir -p "$dir/reports"
	parts_of "$@" | xargs -P "$(($(nproc) + 1))" -I '{}' bash -c 'run_part "$@"' part "$dir" '{}' || code=$?
	add "$(count_pytest "$dir/reports")" "$code"
}
export -f run_part
export root python

# All tests with ASan and UBSan. What they say of daemons goes into files, which nobody would look at.
run_asan() {
	local dir=$build-asan

	rm -rf "$dir/said"
	mkdir -m 1777 "$dir/said" # programs with ids of their own say something, too
	export ASAN_OPTIONS=log_path=$dir/said/asan UBSAN_OPTIONS=print_stacktrace=1:log_path=$dir/said/ubsan
	export VIV_TEST_PATIENCE=3
	run_meson "$dir" 5
	run_pytest "tests of the whole ($dir)" "$dir" test/fault test/integ
	unset ASAN_OPTIONS UBSAN_OPTIONS VIV_TEST_PATIENCE
	check "ASan and UBSan are silent" silent "$dir/said"
}

# Whether a directory is empty; shows what is in it.
silent() {
	[ -z "$(ls -A "$1")" ] || { head -n 40 "$1"/*; false; }
}

# Without randomised addresses: those of new kernels are out of the reach of TSan's runtime of Debian 12.
run_tsan() {
	export TSAN_OPTIONS=halt_on_error=1
	run_meson "$build-tsan" 20 setarch -R
	unset TSAN_OPTIONS
}

# One check: a name and a command.
check() {
	local name=$1

	shift
	echo "== $name"
	if "$@"; then
		add "1 0 0" 0
	else
		echo "FAILED: $name" >&2
		add "0 1 0" 1
	fi
}

# A build directory beside the first: its name, the compiler, options of meson.
build_in() {
	local dir=$build-$1 cc=$2

	shift 2
	if [ ! -e "$dir/build.ninja" ]; then
		CC=$cc meson setup "$dir" "$root" "$@" || return
	fi
	ninja -C "$dir"
}

run_fuzz() {
	local targets name bad=

	build_in fuzz clang -Dfuzz=true -Db_lundef=false || return
	targets=$(ninja -C "$build-fuzz" -t targets all | sed -n 's,^test/fuzz/\(fuzz_[a-z0-9_]*\):.*,\1,p')
	for name in $targets; do
		mkdir -p "$build-fuzz/corpus/$name"
		ninja -C "$build-fuzz" "test/fuzz/$name" &&
			"$build-fuzz/test/fuzz/$name" -max_total_time="$fuzz_seconds" -verbosity=0 \
				-artifact_prefix="$build-fuzz/corpus/" "$build-fuzz/corpus/$name" \
				"$root/test/fuzz/corpus/${name#fuzz_}" || bad="$bad $name"
	done
	[ -z "$bad" ] || { echo "targets that failed:$bad" >&2; false; }
}

run_analysis() {
	(cd "$root" && VIV_ANALYSIS=1 "$python" -m pytest -q -rs -p no:cacheprovider \
		test/lint/test_analysis.py)
}

# What VMs need is made during the unit tests; run_pytest() sees whether it is there.
run_tests() {
	local preparing

	"$build/src/vivd" prepare --state-dir="$VIV_TEST_STATE" >"$build/prepare.log" 2>&1 &
	preparing=$!
	run_meson "$build" 1
	wait "$preparing"
	run_pytest "tests of the whole" "$build" test/sdk test/fault test/integ test/lint
}

run_deep() {
	check "gcc without warnings" build_in gcc gcc -Dwerror=true
	check "clang without warnings" build_in clang clang -Dwerror=true
	check "build with ASan and UBSan" build_in asan gcc -Db_sanitize=address,undefined
	run_asan
	check "build with TSan" build_in tsan gcc -Db_sanitize=thread
	run_tsan
	check "fuzzing" run_fuzz
	check "static analysis" run_analysis
}

case $what in
--all)
	VIV_BOOTS=${VIV_BOOTS:-51} VIV_TEST_LONG=1 VIV_FAULT_ALL=1 run_tests
	run_deep
	;;
--deep) run_deep ;;
*) run_tests ;;
esac
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$passed" != 0 ]
