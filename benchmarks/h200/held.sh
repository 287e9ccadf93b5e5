#!/bin/bash
# Does the fleet that a study recommended hold its limits under arrivals that the study never saw? One engine of the
# recommended configuration, then its target rate of the conversation trace for HOLD_S seconds (600) with a fresh seed.
# Usage: held.sh FOLDER (results) GPU MODEL [FLAG ...]; from the project's root, vLLM and the dependencies in $SITE.
# MODEL is a folder of models/. What it found: FOLDER/held.json (P99 of both latencies against the study's limits).
set -u
OUT=$1
export CUDA_VISIBLE_DEVICES=$2
MODEL=$3
shift 3
. benchmarks/h200/environment.sh
PORT=${PORT:-8120}
PROFILE=${PROFILE:-benchmarks/h200/conv-moe-30b-load.yaml}
URL=http://127.0.0.1:$PORT

setsid vllm serve "models/$MODEL" --served-model-name "$MODEL" --load-format dummy --port "$PORT" --max-model-len 8192 \
    --no-enable-prefix-caching "$@" > "$OUT/engine-held.log" 2>&1 &
ENGINE=$!
trap 'kill -TERM -- -$ENGINE 2> /dev/null; wait $ENGINE' EXIT
for _ in $(seq 300); do curl -sf "$URL/health" > /dev/null && break; sleep 1; done
say "engine is up"
fleetune load -f "$PROFILE" --target "$URL" --model "$MODEL" --rate "${RATE:-10}" --duration "${WARM_S:-20}" --seed 1 \
    > "$OUT/warm.log" 2>&1  # the experts' kernels are compiled at their first use
fleetune load -f "$PROFILE" --target "$URL" --model "$MODEL" --rate "${RATE:-10}" --duration "${HOLD_S:-600}" \
    --seed "${SEED:-7301}" --json "$OUT/held.json" > "$OUT/held.log" 2>&1
say "held for ${HOLD_S:-600} s: $?"
