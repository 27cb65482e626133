#!/usr/bin/env bash
# A sweep with the shell alone: every combination of values with every seed, then a table of means from the journals.
#   scripts/sweep.sh [-m METRIC] [-s "SEED..."] [-o FOLDER] EXPERIMENT.yaml KEY="VALUE..." ...
#   scripts/sweep.sh -m loss -s "1 2 3" exp.yaml train.optimizer.lr="0.01 0.1" rounds="5 10"
# Values are separated by spaces. Finished runs are kept, others go on; a failed run is named and the rest goes on.
# FEDCTL names the program. fedctl sweep does more: intervals, paired differences, checks, Slurm (docs/sweep.md).
set -uo pipefail

fedctl=${FEDCTL:-$(dirname "$0")/../build/release/bin/fedctl}
metric=accuracy seeds="1 2 3" out=
usage() { sed -n '3,4p' "$0" >&2; exit 2; }
while getopts m:s:o: option; do
  case $option in m) metric=$OPTARG ;; s) seeds=$OPTARG ;; o) out=$OPTARG ;; *) usage ;; esac
done
shift $((OPTIND - 1))
[[ $# -ge 1 ]] || usage
config=$1
shift
out=${out:-runs/sweep-$(basename "$config" .yaml)}

# One cell a line: "key=value key=value".
cells=("")
for axis in "$@"; do
  [[ $axis == ?*=?* ]] || usage
  product=()
  for cell in "${cells[@]}"; do
    for value in ${axis#*=}; do product+=("${cell:+$cell }${axis%%=*}=$value"); done
  done
  cells=("${product[@]}")
done

# The last line of a journal with `"KEY":number`; the number.
last() { grep '"event":"round"' "$1" | sed -n "s/.*[,{]\"$2\":\(-\{0,1\}[0-9][^,}]*\).*/\1/p" | tail -1; }
ended() { tail -1 "$1/journal.jsonl" 2>/dev/null | grep -q '"event":"end","status":"\(done\|budget\)"'; }

failed=0
for cell in "${cells[@]}"; do
  for seed in $seeds; do
    run=$out/$(tr -c 'A-Za-z0-9.=\n' _ <<<"${cell:-all}")/$seed
    ended "$run" && continue
    set --
    for setting in $cell; do set -- "$@" --set "$setting"; done
    if compgen -G "$run/checkpoint/round-*" >/dev/null; then set -- "$@" --resume; else set -- "$@" --fresh; fi
    echo "sweep: ${cell:-all} seed $seed" >&2
    "$fedctl" simulate --config "$config" "$@" --set "seed=$seed" --run-dir "$run" --quiet >/dev/null
    status=$?
    [[ $status -lt 128 ]] || exit $status
    [[ $status -eq 0 ]] || { echo "sweep: failed with status $status: ${cell:-all} seed $seed" >&2; failed=1; }
  done
done

for cell in "${cells[@]}"; do
  for seed in $seeds; do
    run=$out/$(tr -c 'A-Za-z0-9.=\n' _ <<<"${cell:-all}")/$seed
    ended "$run" || continue
    journal=$run/journal.jsonl
    echo "$(last "$journal" "$metric") $(last "$journal" bytes_up_total) $(last "$journal" bytes_down_total)"
  done | awk -v cell="${cell:-all}" -v metric="$metric" '
    NF == 3 { n++; sum += $1; squares += $1 * $1; up += $2; down += $3 }
    END {
      if (n == 0) { print cell " runs=0"; exit }
      variance = n > 1 ? (squares - sum * sum / n) / (n - 1) : 0
      printf "%s runs=%d %s=%.6g deviation=%.3g up=%d down=%d \n", cell, n, metric, sum / n, sqrt(variance > 0 ? variance : 0), up / n, down / n
    }'
done
exit $failed
