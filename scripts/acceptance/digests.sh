#!/usr/bin/env bash
# Compares what two versions compute: digest and bytes by cause of every round (digests.py says of what). Prints what differs; status 1 if
# anything does. A commit is built in build/before/COMMIT (minutes, once).
#   scripts/acceptance/digests.sh COMMIT|BINARY       before; now is build/release/bin/fedctl
set -euo pipefail
cd "$(dirname "$0")/../.."
before=${1:?COMMIT or BINARY is missing}
if [[ ! -x $before ]]; then
  commit=$(git rev-parse --short "$before^{commit}")
  tree=build/before/$commit
  [[ -d $tree ]] || git worktree add --detach "$tree" "$commit" >/dev/null
  (cd "$tree" && cmake --preset release >/dev/null && cmake --build --preset release --target fedctl -j "$(nproc)") | tail -1
  before=$tree/build/release/bin/fedctl
fi
FEDCTL=$before scripts/acceptance/digests.py > build/digests-before.tsv
scripts/acceptance/digests.py --against build/digests-before.tsv
