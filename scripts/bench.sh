#!/bin/bash
# Runs every benchmark of a build five times and prints the medians: scripts/bench.sh BUILD
set -euo pipefail
count=0
for program in "$1"/bench/*_bench; do
  [[ -x $program ]] || continue
  count=$((count + 1))
  "$program" --benchmark_repetitions=5 --benchmark_report_aggregates_only=true |
    grep -v -e '_mean ' -e '_stddev ' -e '_cv '
done
[[ $count -gt 0 ]] || { echo "bench: no benchmarks in $1/bench" >&2; exit 1; }
