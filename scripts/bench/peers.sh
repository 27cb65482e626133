#!/usr/bin/env bash
# fedctl beside what people use today: the same work in alternation, three times, on this machine. Writes results.jsonl (a line
# a run) and table.md into the output folder and prints the table. docs/benchmarks.md explains the rows.
#   scripts/bench/peers.sh [--env DIR] [--out DIR] [--turns N] [--fedctl FILE] [--data DIR] [--full] [--keep] [ROW...]
# Rows: a (exchange over TCP), superlink (the same, Flower's current engine), b (1,000 clients), sim (simulation), pfl, flare,
# c (LoRA on MiniLM), step (training step). Start, memory and bytes (d, e) are columns of a, b and superlink.
# The Python environments (7 GB, pinned in scripts/bench/peers/requirements-*.txt) go into --env, or a folder that is removed
# at the end. As root each run has a network of its own and exact bytes; otherwise superlink is skipped.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
env='' out=$root/runs/peers turns=3 fedctl=$root/build/release/bin/fedctl data=$root/../shared/data full=0 keep=0
rows=()
while (($#)); do
  case $1 in
    --env) env=$2; shift ;;
    --out) out=$2; shift ;;
    --turns) turns=$2; shift ;;
    --fedctl) fedctl=$2; shift ;;
    --data) data=$2; shift ;;
    --full) full=1 ;;
    --keep) keep=1 ;;
    -h | --help) sed -n '2,9p' "$0"; exit 0 ;;
    -*) echo "peers.sh: unknown option $1 (see --help)" >&2; exit 2 ;;
    *) rows+=("$1") ;;
  esac
  shift
done
((${#rows[@]})) || rows=(a b sim pfl c step flare superlink)
[[ -x $fedctl ]] || { echo "peers.sh: $fedctl is not there; build it or give --fedctl" >&2; exit 2; }
mkdir -p "$out"
out=$(cd "$out" && pwd)
data=$(cd "$data" 2>/dev/null && pwd) || data=''
if [[ -z $env ]]; then
  env=$(mktemp -d)
  ((keep)) || trap 'rm -rf "$env"' EXIT
fi

rm -f "$env"/*.failed  # of an earlier run: tried again
# environment NAME: makes $env/NAME once; false, with a message, where it cannot be made.
environment() {
  [[ -e $env/$1/ready ]] && return 0
  [[ -e $env/$1.failed ]] && return 1
  mkdir -p "$env"
  echo "peers.sh: making $env/$1 (minutes)" >&2
  if python3 -m venv "$env/$1" && "$env/$1/bin/pip" install --quiet --disable-pip-version-check \
    -r "$here/peers/requirements-$1.txt" >&2; then
    touch "$env/$1/ready"
  else
    touch "$env/$1.failed"
    echo "peers.sh: skipped what needs $1: its packages cannot be installed here" >&2
    return 1
  fi
}

# measure ROW TURN ENVIRONMENT SCRIPT ARGUMENT...: one run, one line of results.jsonl. ENVIRONMENT - is python3 alone.
measure() {
  local row=$1 turn=$2 python=python3 script=$4 line
  if [[ $3 != - ]]; then
    environment "$3" || return 0
    python=$env/$3/bin/python
  fi
  local arguments=("$here/peers/$script.py" "${@:5}")
  [[ $script == fedctl_* ]] && arguments+=(--fedctl "$fedctl")
  local command=(timeout 500 "$python" "${arguments[@]}")
  if ((EUID == 0)) && unshare -n true 2>/dev/null; then
    # exec: `timeout` has to be the process that is waited for, or its children outlive it.
    command=(unshare -n sh -c 'ip link set lo up; PEERS_PRIVATE_NETWORK=1 exec "$@"' sh "${command[@]}")
  fi
  if line=$("${command[@]}" 2>"$out/last.log" | grep '^{"peer"'); then
    echo "{\"row\": \"$row\", \"turn\": $turn, ${line#\{}" | tee -a "$out/results.jsonl" >&2
  else
    echo "peers.sh: row $row, turn $turn: $script ${*:5} failed: $(tail -n 1 "$out/last.log")" >&2
  fi
}

# What a row runs, once; turns follow each other, so that a busy minute meets all peers.
exchange() {  # row, turn, clients, values, fedctl's rounds, Flower's rounds
  measure "$1" "$2" - fedctl_rounds --clients "$3" --values "$4" --rounds "$5"
  # Small rounds are mostly the disk: beside it what a run directory in memory gives, since Flower keeps nothing.
  (($4 > 1024)) || measure "$1" "$2" - fedctl_rounds --clients "$3" --values "$4" --rounds "$5" --no-disk
  measure "$1" "$2" peers flower_grpc --clients "$3" --values "$4" --rounds "$6"
}
row_a() {
  local kib4=1024 mib1=262144 mib8=2097152
  exchange a "$1" 10 $kib4 200 200
  exchange a "$1" 50 $kib4 100 100
  exchange a "$1" 200 $kib4 40 30
  exchange a "$1" 10 $mib1 30 20
  exchange a "$1" 50 $mib1 10 8
  exchange a "$1" 200 $mib1 5 4
  exchange a "$1" 10 $mib8 8 5
  exchange a "$1" 50 $mib8 4 3
  # Flower needs 11 GiB here, and a minute: once is enough.
  (($1 > 1 && !full)) || exchange a "$1" 200 $mib8 3 2
  measure a "$1" - fedctl_rounds --clients 50 --values $kib4 --rounds 100 --tls
  measure a "$1" - fedctl_rounds --clients 50 --values $mib1 --rounds 10 --tls
}
row_b() {
  measure b "$1" - fedctl_rounds --clients 1000 --per-round 1000 --values 1024 --rounds 15 --hosts 2
  measure b "$1" peers flower_grpc --clients 1000 --per-round 1000 --values 1024 --rounds 6
  measure b "$1" - fedctl_rounds --clients 1000 --per-round 100 --values 1024 --rounds 100 --hosts 2
  measure b "$1" peers flower_grpc --clients 1000 --per-round 100 --values 1024 --rounds 30
}
row_sim() {
  measure sim "$1" - fedctl_simulation exchange --clients 1000 --cohort 100 --rounds 50 --threads 2
  measure sim "$1" peers flower_simulation exchange 100 6 1000
  measure sim "$1" - fedctl_simulation mlp --clients 1000 --cohort 100 --rounds 8 --threads 2
  measure sim "$1" peers flower_simulation mlp 100 4 1000
}
row_pfl() {
  local kind
  for kind in linear mlp; do
    local size=(100 1000 9)
    [[ $kind == linear ]] && size=(1000 10000 7)
    measure pfl "$1" - fedctl_simulation $kind --cohort "${size[0]}" --clients "${size[1]}" --rounds "${size[2]}"
    measure pfl "$1" peers pfl_simulation $kind "${size[0]}" "${size[2]}" "${size[1]}"
    measure pfl "$1" - fedctl_simulation $kind --cohort "${size[0]}" --clients "${size[1]}" --rounds "${size[2]}" --codec
    measure pfl "$1" - fedctl_simulation $kind --cohort "${size[0]}" --rounds "${size[2]}" --bare
    measure pfl "$1" peers torch_bare $kind
  done
}
row_c() {
  [[ -n $data ]] || { echo "peers.sh: skipped row c: no data folder (--data)" >&2; return 0; }
  measure c "$1" - fedctl_simulation lora --clients 20 --cohort 10 --rounds 3 --steps 5 --threads 2 --data "$data"
  measure c "$1" peers flower_simulation lora 10 3 20 5 "$data"
  measure c "$1" - fedctl_simulation lora-16x32 --clients 20 --cohort 4 --rounds 3 --steps 2 --data "$data"
  measure c "$1" peers pfl_simulation lora-16x32 4 3 20 2 "$data"
}
row_step() {
  [[ -n $data ]] || { echo "peers.sh: skipped row step: no data folder (--data)" >&2; return 0; }
  local kind dtype
  for kind in lora lora-16x32; do
    for dtype in float32 bfloat16; do
      measure step "$1" - fedctl_simulation $kind --bare --cohort 4 --rounds 2 --dtype $dtype --data "$data"
    done
    measure step "$1" peers torch_peft_step $kind 20 "$data"
  done
}
row_flare() {
  measure flare "$1" - fedctl_rounds --clients 8 --values 262144 --rounds 30
  measure flare "$1" flare flare_simulation 8 262144 3
}
row_superlink() {
  if ((EUID != 0)) || ! unshare -n true 2>/dev/null; then
    echo "peers.sh: skipped row superlink: its bytes need network namespaces, which need root" >&2
    return 0
  fi
  exchange_superlink "$1" 2 1024
  exchange_superlink "$1" 10 1024 --light
  exchange_superlink "$1" 50 1024 --light
  ((full)) || return 0
  exchange_superlink "$1" 10 262144 --light
  exchange_superlink "$1" 10 2097152 --light
  exchange_superlink "$1" 200 1024 --light
}
exchange_superlink() {  # turn, clients, values, --light or nothing
  measure superlink "$1" - fedctl_rounds --clients "$2" --values "$3" --rounds 60
  measure superlink "$1" peers flower_superlink --clients "$2" --values "$3" --rounds 3 "${@:4}"
}

for row in "${rows[@]}"; do
  declare -F "row_$row" >/dev/null || { echo "peers.sh: no row $row (see --help)" >&2; exit 2; }
done
touch "$out/results.jsonl"
for row in "${rows[@]}"; do
  sed -i "/^{\"row\": \"$row\"/d" "$out/results.jsonl"  # a row is measured anew, the others stay
  began=$SECONDS
  for ((turn = 1; turn <= turns; ++turn)); do
    "row_$row" "$turn"
  done
  echo "peers.sh: row $row took $((SECONDS - began)) s" >&2
done
python3 "$here/peers/table.py" "$out/results.jsonl" | tee "$out/table.md"
