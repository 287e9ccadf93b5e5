#!/bin/bash
# What a running installation does with real engines: adapters loaded hot, sleep and waking (hot.py), a good and a bad
# canary under live traffic (canary.py). Two installations at once on two H200s, one engine of each on either: 7 minutes.
# Usage: live.sh FOLDER (results); from the project's root, vLLM and the dependencies in $SITE.
set -u
OUT=$1
STATE=${STATE:-/tmp/fleetune-live}
. benchmarks/h200/environment.sh
mkdir -p "$STATE"
python3 examples/h200/make_adapter.py llama-8b "$STATE/support-1"

part() {  # NAME ARGUMENTS
    local name=$1
    shift
    python3 -m "benchmarks.h200.$name" --data-dir "$STATE/$name" --json "$OUT/$name.json" "$@" > "$OUT/$name.log" 2>&1
    say "$name ended: $?"
    tar czf "$OUT/$name-logs.tgz" -C "$STATE/$name" logs engines 2> /dev/null
}

say "begin"
part hot --adapter "$STATE/support-1" &
part canary &
wait
