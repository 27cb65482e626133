#!/usr/bin/env bash
# Everything that must pass: setup, build, unit, conformance and layer tests, end-to-end tests with real processes on
# loopback. Ends with "N passed, N failed".
#   scripts/test.sh               all
#   scripts/test.sh --no-setup    without installing packages
set -uo pipefail
cd "$(dirname "$0")/.."
[[ ${1:-} == --no-setup ]] || scripts/setup.sh || exit 1
scripts/build.sh release || exit 1

log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0 failed=0
ctest --test-dir build/release -j "$(nproc)" --output-on-failure --timeout 300 | tee "$log"
total=$(sed -n 's/.*tests failed out of \([0-9]*\).*/\1/p' "$log")
bad=$(sed -n 's/.*, \([0-9]*\) tests* failed out of.*/\1/p' "$log")
[[ -n $total && -n $bad ]] || { echo "test: ctest did not finish"; exit 1; }
passed=$((passed + total - bad)) failed=$((failed + bad))

FEDCTL=build/release/bin/fedctl python3 -m unittest discover -s tests/e2e -p '*_test.py' -v 2>&1 | tee "$log"
ran=$(sed -n 's/^Ran \([0-9]*\) tests* in.*/\1/p' "$log")
[[ -n $ran ]] || { echo "test: the end-to-end tests did not finish"; exit 1; }
bad=$(sed -n 's/^FAILED (\(.*\))$/\1/p' "$log" | tr ',' '\n' | sed -n 's/.*\(failures\|errors\)=\([0-9]*\).*/\2/p' | paste -sd+ | bc 2>/dev/null)
skipped=$(sed -n 's/.*skipped=\([0-9]*\).*/\1/p' "$log" | tail -1)
bad=${bad:-0} skipped=${skipped:-0}
passed=$((passed + ran - bad - skipped)) failed=$((failed + bad))

echo "$passed passed, $failed failed, $skipped skipped"
[[ $failed -eq 0 ]]
