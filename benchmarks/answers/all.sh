#!/bin/sh
# Every set of `fleetune bench answers`, one after the other, until a time limit; called again it goes on where it was:
#
#   benchmarks/answers/all.sh FOLDER [PROCESSES [SECONDS]]
#
# FOLDER gets standard.json (nine scenarios, 6, 8, 12 and 20 starts, 20 seeds: 720 studies), held-out.json (five
# scenarios, 8 and 12 starts, 20 seeds: 200 studies) and drawn.json (24 services drawn by chance, 8 and 12 starts, 4
# seeds: 192 studies), each with the studies it is made of and the truth, which are not worked out again. SETS chooses
# (e.g. SETS=drawn), SEEDS how many seeds of the first two, FIRST_SEED where they begin, DRAW which services are drawn.
# PYTHON is the interpreter. What other code ran is run again. Exit code 124: time was up, each JSON has what there is.
set -eu

folder=${1:?usage: benchmarks/answers/all.sh FOLDER [PROCESSES [SECONDS]]}
processes=${2:-$(nproc)}
seconds=${3:-1500}
seeds=${SEEDS:-20}
drawn_seeds=$(((seeds + 4) / 5))
first=${FIRST_SEED:-2000}
python=${PYTHON:-python}

mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
cd "$(dirname "$0")/../.."
export PYTHONPATH="$PWD"
export NUMBA_NUM_THREADS=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
ends=$(($(date +%s) + seconds))
code=0

play() { # name, options of bench answers
    name=$1
    shift
    case " ${SETS:-standard held-out drawn} " in *" $name "*) ;; *) return 0 ;; esac
    left=$((ends - $(date +%s)))
    [ "$left" -gt 0 ] || { code=124; return 0; }
    echo "== $name, at most $left s"
    timeout "$left" "$python" -m controlplane.cli.main bench answers --json "$folder/$name.json" --cache "$folder/truth" \
        --studies "$folder/$name.studies.jsonl" --first-seed "$first" --processes "$processes" "$@" || code=$?
}

play standard --seeds "$seeds" --budgets 6,8,12,20
play held-out --seeds "$seeds" --budgets 8,12 --held-out
play drawn --seeds "$drawn_seeds" --budgets 8,12 --drawn 24 --draw "${DRAW:-9}"
exit "$code"
