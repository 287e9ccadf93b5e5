#!/bin/bash
# Our generator and vLLM's send the same requests at the same instants to one idle engine, at a low and a high rate.
# Usage: generators.sh URL FOLDER (results); environment.sh must have been read. About 100 s on an H200.
# Then: python -m benchmarks.h200.compare_generators FOLDER
set -u
URL=$1 OUT=$2
PROFILE=benchmarks/h200/generators.yaml
mkdir -p "$OUT"

engine_says() { curl -s "$URL/metrics" | grep -E '^vllm:(time_to_first_token|request_time_per_output_token|e2e_request_latency)_seconds' > "$OUT/$1.txt"; }

side_by_side() {  # RATE DURATION
    local n
    n=$(python3 -m benchmarks.h200.timed_trace $PROFILE "$1" "$2" "/tmp/timed-$1.jsonl")
    engine_says "before-ours-$1"
    fleetune load -f $PROFILE --target "$URL" --model llama-8b --rate "$1" --duration "$2" --json "$OUT/ours-$1.json" \
        > "$OUT/ours-$1.log" 2>&1
    engine_says "after-ours-$1"
    engine_says "before-vllm-$1"
    vllm bench serve --base-url "$URL" --model models/llama-8b --served-model-name llama-8b --dataset-name timed_trace \
        --dataset-path "/tmp/timed-$1.jsonl" --num-prompts "$n" \
        --percentile-metrics ttft,tpot,itl,e2el --metric-percentiles 50,90,99 \
        --save-result --result-filename "$OUT/vllm-$1.json" > "$OUT/vllm-$1.log" 2>&1
    engine_says "after-vllm-$1"
}

side_by_side 10 30
side_by_side 120 15
