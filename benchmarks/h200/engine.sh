#!/bin/bash
# One real engine whose configuration is not among the shipped measurements: calibrated, predicted and measured at three
# rates of two traces, then two load generators side by side on it. About 7 minutes on one H200.
# Usage: engine.sh FOLDER (results) [GPU]; from the project's root, vLLM and the dependencies in $SITE.
set -u
OUT=$1
export CUDA_VISIBLE_DEVICES=${2:-0}
. benchmarks/h200/environment.sh
URL=http://127.0.0.1:8100

setsid vllm serve models/llama-8b --served-model-name llama-8b --load-format dummy --port 8100 --max-model-len 8192 \
    --max-num-seqs 128 --max-num-batched-tokens 4096 --no-enable-prefix-caching > "$OUT/engine.log" 2>&1 &
ENGINE=$!
for _ in $(seq 300); do curl -sf $URL/health > /dev/null && break; sleep 1; done
say "engine is up"
fleetune calibrate --target $URL --gpu H200 --model models/llama-8b --name live-8b --profiles "$OUT" \
    --keep "$OUT/probes.json" --set max-num-seqs=128 --set max-num-batched-tokens=4096 --set max-model-len=8192 \
    --set enable-prefix-caching=false > "$OUT/calibrate.log" 2>&1
say "calibration ended: $?"
for run in "chat 6" "chat 12" "chat 18" "code 8" "code 14"; do
    set -- $run
    fleetune load -f "$1" --target $URL --model llama-8b --rate "$2" --duration 20 --json "$OUT/$1-$2.json" \
        > "$OUT/$1-$2.log" 2>&1
done
say "predicted rates measured"
bash benchmarks/h200/generators.sh "$OUT/generators" $URL
say "load generators compared"
kill -TERM -- -$ENGINE
wait $ENGINE
