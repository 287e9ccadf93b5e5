#!/bin/bash
# Capacity with shared prefixes on a real vLLM against the twin's: six cells (nothing, half, nine tenths of every prompt
# shared; caching on and off), one engine start for caching on and one for off. About 10 minutes on one H200 with nobody else on it.
# Usage: prefix.sh FOLDER (results) [GPU]; from the project's root, vLLM and the dependencies in $SITE. What it found:
# FOLDER/prefix.txt, FOLDER/cells-on.json and -off.json; each level's report beside them. Half the time on two GPUs: with
# CACHING=on on one and CACHING=off PORT=8101 on the other, both into the same FOLDER.
# With ENGINE="python3 -m controlplane.emulator.main serve --emulator-startup-s 5" it runs on the emulator, without a GPU.
set -u
OUT=$1
export CUDA_VISIBLE_DEVICES=${2:-0}
ON_S=${ON_S:-300} OFF_S=${OFF_S:-280}  # of each engine, its start included (the second is the sooner one)
GPU_NAME=${GPU_NAME:-H200}
ENGINE=${ENGINE:-vllm serve}
SITE=${SITE:-}
. benchmarks/h200/environment.sh
PORT=${PORT:-8100}
URL=http://127.0.0.1:$PORT

start() {  # FLAG NAME
    # shellcheck disable=SC2086 # a command of several words
    setsid $ENGINE models/llama-8b --served-model-name llama-8b --load-format dummy --port "$PORT" --max-model-len 8192 \
        --max-num-seqs 256 --max-num-batched-tokens 8192 "$1" > "$OUT/engine-$2.log" 2>&1 &
    PID=$!
}

stop() {
    kill -TERM -- -"$PID" 2> /dev/null
    wait "$PID"
    command -v nvidia-smi > /dev/null || return
    for _ in $(seq 60); do  # the next engine takes stock of the memory as it starts: this one's has to be free by then
        used=$(nvidia-smi -i "$CUDA_VISIBLE_DEVICES" --query-gpu=memory.used --format=csv,noheader,nounits)
        [ "$used" -lt 4096 ] && return
        sleep 1
    done
}

trap stop EXIT
say "begin"
for caching in ${CACHING:-on off}; do
    [ $caching = on ] && flag=--enable-prefix-caching limit_s=$ON_S || flag=--no-enable-prefix-caching limit_s=$OFF_S
    start $flag $caching
    python3 -m benchmarks.prefix_capacity --target $URL --model llama-8b --gpu "$GPU_NAME" --caching $caching --out "$OUT" \
        --limit-s "$limit_s" > "$OUT/caching-$caching.log" 2>&1
    say "caching $caching measured: $?"
    stop
done
[ -e "$OUT/cells-on.json" ] && [ -e "$OUT/cells-off.json" ] && python3 -m benchmarks.prefix_capacity --compare "$OUT" | tee "$OUT/prefix.txt"
say "end"
