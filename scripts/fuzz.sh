#!/bin/bash
# Runs every fuzz target of a fuzz build: scripts/fuzz.sh BUILD SECONDS
# A finding is kept below BUILD/fuzz/<target>.findings, and ends the run with exit code 1.
set -euo pipefail
build=$1
seconds=$2
found=0
count=0
for target in "$build"/fuzz/*_fuzz; do
  [[ -x $target ]] || continue
  count=$((count + 1))
  corpus=$target.corpus
  findings=$target.findings
  mkdir -p "$corpus" "$findings"
  echo "fuzz: $(basename "$target") for $seconds s"
  if ! "$target" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=25 -print_final_stats=1 \
      -artifact_prefix="$findings/" "$corpus" >"$target.log" 2>&1; then
    tail -40 "$target.log"
    echo "fuzz: $(basename "$target") FAILED; input in $findings" >&2
    found=1
  fi
done
[[ $count -gt 0 ]] || { echo "fuzz: no targets in $build/fuzz" >&2; exit 1; }
exit $found
