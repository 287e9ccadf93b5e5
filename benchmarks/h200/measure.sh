#!/bin/bash
# What was run on two real H200s: two studies, a calibration, a comparison of load generators, and a canary.
# Usage: measure.sh FOLDER (results); from the project's root, vLLM and the dependencies in $SITE. About 25 minutes.
set -u
OUT=$1
. benchmarks/h200/environment.sh

conversation() {
    say "study of the conversation trace begins"
    CUDA_VISIBLE_DEVICES=0 fleetune tune -f examples/h200/conv-8b.yaml --data-dir "$OUT/conv" --json "$OUT/conv.json" \
        > "$OUT/conv.log" 2>&1
    say "study of the conversation trace ended: $?"
}

one_engine() {  # an engine whose configuration is not among the shipped measurements
    local url=http://127.0.0.1:8100
    CUDA_VISIBLE_DEVICES=1 setsid vllm serve models/llama-8b --served-model-name llama-8b --load-format dummy \
        --port 8100 --max-model-len 8192 --max-num-seqs 128 --max-num-batched-tokens 4096 --no-enable-prefix-caching \
        > "$OUT/engine.log" 2>&1 &
    local engine=$!
    for _ in $(seq 300); do curl -sf $url/health > /dev/null && break; sleep 1; done
    say "engine for the calibration is up"
    fleetune calibrate --target $url --gpu H200 --model models/llama-8b --name live-8b --profiles "$OUT/profiles" \
        --set max-num-seqs=128 --set max-num-batched-tokens=4096 --set max-model-len=8192 \
        --set enable-prefix-caching=false > "$OUT/calibrate.log" 2>&1
    say "calibration ended: $?"
    for rate in 6 12 18; do
        fleetune predict -f examples/h200/conv-8b.yaml --profile live-8b --profiles "$OUT/profiles" --rate $rate \
            --set max-num-seqs=128 --set max-num-batched-tokens=4096 --json > "$OUT/predict-$rate.json" 2>> "$OUT/calibrate.log"
        fleetune load -f chat --target $url --model llama-8b --rate $rate --duration 20 --json "$OUT/load-$rate.json" \
            > "$OUT/load-$rate.log" 2>&1
    done
    say "predicted rates measured"
    for rate in 10 40; do
        fleetune load -f benchmarks/h200/random-512-128.yaml --target $url --model llama-8b --rate $rate \
            --json "$OUT/ours-$rate.json" > "$OUT/ours-$rate.log" 2>&1
        curl -s $url/metrics > "$OUT/metrics-ours-$rate.txt"
        vllm bench serve --base-url $url --model models/llama-8b --served-model-name llama-8b --dataset-name random \
            --random-input-len 512 --random-output-len 128 --request-rate $rate --num-prompts $((rate * 20)) --ignore-eos \
            --percentile-metrics ttft,tpot,itl,e2el --metric-percentiles 50,90,99 \
            --save-result --result-filename "$OUT/vllm-bench-$rate.json" > "$OUT/vllm-bench-$rate.log" 2>&1
        curl -s $url/metrics > "$OUT/metrics-vllm-bench-$rate.txt"
    done
    say "load generators compared"
    kill -TERM -- -$engine
    wait $engine
}

code() {
    say "study of the code trace begins"
    CUDA_VISIBLE_DEVICES=1 fleetune tune -f examples/h200/code-8b.yaml --data-dir "$OUT/code" --json "$OUT/code.json" \
        > "$OUT/code.log" 2>&1
    say "study of the code trace ended: $?"
}

conversation &
{ one_engine; code; } &
wait
python3 -m benchmarks.h200.canary --data-dir "$OUT/canary" --json "$OUT/canary.json" --study "$OUT/conv.json" \
    > "$OUT/canary.log" 2>&1
say "canary ended: $?"
