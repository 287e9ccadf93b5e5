#!/bin/sh
# The scenarios that the search with a calibrated twin is judged on, PROCESSES of them at a time:
#
#   benchmarks/search/judged.sh FOLDER [PROCESSES]
#
# FOLDER gets a JSON and a log for each scenario, and targets.txt: what was reached of the three targets (issue 13), in
# each of them. A scenario whose JSON is there is not run again; the last one is the newest, which no rule was chosen on.
# SCENARIOS chooses, SEEDS says how many seeds (6) and FIRST_SEED where they begin (9900), CONTESTANTS who plays (more
# than ours_calibrated, random and optuna_tpe, which the table needs), PYTHON is the interpreter. Exit code 1: a run broke
# (its log says why), the table is of the others.
set -eu

folder=${1:?usage: benchmarks/search/judged.sh FOLDER [PROCESSES]}
processes=${2:-$(nproc)}
scenarios=${SCENARIOS:-moe-code-1h100-chunks 8b-conv-1h100-blocks 14b-code-1h100-padded moe-conv-2h100-allocator \
14b-code-2h100-fp8kv 8b-code-1gpu-ttft moe-conv-1h100-router 8b-conv-1l40s-power 8b-code-1h100-whole}
export SEEDS="${SEEDS:-6}" FIRST_SEED="${FIRST_SEED:-9900}" PYTHON="${PYTHON:-python}"
export CONTESTANTS="${CONTESTANTS:-ours_calibrated ours random optuna_tpe}"

mkdir -p "$folder"
FOLDER=$(cd "$folder" && pwd)
export FOLDER
cd "$(dirname "$0")/../.."
export PYTHONPATH="$PWD"
export NUMBA_NUM_THREADS=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
code=0

printf '%s\n' $scenarios | xargs -P "$processes" -I NAME sh -c '
    file="$FOLDER/$1.json"
    [ ! -e "$file" ] || exit 0
    players=$(printf " --contestant %s" $CONTESTANTS)
    "$PYTHON" -m controlplane.cli.main bench search --json "$file" --seeds "$SEEDS" --first-seed "$FIRST_SEED" \
        --ladders 0 --scenario "$1" $players --workers 1 > "$FOLDER/$1.log" 2>&1 || { echo "$1 broke" >&2; exit 1; }
    echo "$1 is done"
' judge NAME || code=1

"$PYTHON" -m benchmarks.search.judged "$FOLDER" | tee "$FOLDER/targets.txt"
exit "$code"
