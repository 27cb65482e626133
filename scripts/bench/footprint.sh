#!/usr/bin/env bash
# Memory and start-up of fedctl's processes: server and client, without LibTorch (quadratic), with it (mlp), and with MiniLM as a
# frozen backbone (skipped without --data). Start-up of a client is from exec to its first frame; of a server, to its port.
#   scripts/bench/footprint.sh [--turns N] [--fedctl FILE] [--data DIR]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
turns=5 fedctl=$root/build/release/bin/fedctl data=$root/../shared/data
while (($#)); do
  case $1 in
    --turns) turns=$2; shift ;;
    --fedctl) fedctl=$2; shift ;;
    --data) data=$2; shift ;;
    -h | --help) sed -n '2,4p' "$0"; exit 0 ;;
    *) echo "footprint.sh: unknown argument $1 (see --help)" >&2; exit 2 ;;
  esac
  shift
done
[[ -x $fedctl ]] || { echo "footprint.sh: $fedctl is not there; build it or give --fedctl" >&2; exit 2; }
exec python3 "$here/peers/fedctl_footprint.py" --turns "$turns" --fedctl "$fedctl" --data "$data"
