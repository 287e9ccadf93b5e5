#!/bin/bash
# `fleetune load` and `vllm bench serve` (its timed-trace mode) send the same requests at the same instants to one engine.
# Usage: generators.sh FOLDER [URL] (results; a running engine, else one is started); from the project's root, vLLM and
# the dependencies in $SITE. About 3 minutes after the engine is up. Then: python -m benchmarks.h200.compare_generators FOLDER
set -u
OUT=$1
. benchmarks/h200/environment.sh
PROFILE=benchmarks/h200/generators.yaml
MODEL=models/llama-8b
URL=${2:-}

start_engine() {
    URL=http://127.0.0.1:8100
    setsid vllm serve $MODEL --served-model-name llama-8b --load-format dummy --port 8100 --max-model-len 8192 \
        --max-num-seqs 256 --max-num-batched-tokens 8192 --no-enable-prefix-caching > "$OUT/engine.log" 2>&1 &
    ENGINE=$!
    trap 'kill -TERM -- -$ENGINE; wait $ENGINE' EXIT
    for _ in $(seq 300); do curl -sf $URL/health > /dev/null && break; sleep 1; done
    say "engine is up"
}

ours() {  # RATE SECONDS NAME
    fleetune load -f $PROFILE --target $URL --model llama-8b --tokenizer $MODEL --rate "$1" --duration "$2" \
        --json "$OUT/$3.json" > "$OUT/$3.log" 2>&1
}

theirs() {  # RATE SECONDS NAME
    local requests
    requests=$(python3 -m benchmarks.h200.timed_trace $PROFILE "$1" "$2" "$OUT/trace-$1.jsonl")
    PYTHONHASHSEED=0 vllm bench serve --base-url $URL --model $MODEL --served-model-name llama-8b --temperature 0 \
        --dataset-name timed_trace --dataset-path "$OUT/trace-$1.jsonl" --timed-trace-chunk-hash-size 8192 \
        --num-prompts "$requests" --ready-check-timeout-sec 0 --percentile-metrics ttft,tpot,itl,e2el \
        --metric-percentiles 50,90,95,99 --save-result --save-detailed --result-filename "$OUT/$3.json" > "$OUT/$3.log" 2>&1
}

measure() {  # WHO RATE SECONDS
    curl -s $URL/metrics > "$OUT/$1-$2-before.txt"
    "$1" "$2" "$3" "$1-$2"
    sleep 1
    curl -s $URL/metrics > "$OUT/$1-$2-after.txt"
    say "$1 at $2/s done"
}

[ -n "$URL" ] || start_engine
ours 50 5 warm-up
for level in "4 45" "40 15"; do
    # shellcheck disable=SC2086 # two words on purpose
    set -- $level
    measure ours "$1" "$2"
    measure theirs "$1" "$2"
done
python3 -m benchmarks.h200.compare_generators "$OUT" | tee "$OUT/comparison.txt"
