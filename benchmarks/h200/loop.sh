#!/bin/bash
# A study, then a canary between two revisions of a real vLLM. About 25 minutes on two H200s.
# Usage: loop.sh FOLDER (results); from the project's root, vLLM and the dependencies in $SITE.
set -u
OUT=$1
. benchmarks/h200/environment.sh

study() {
    fleetune tune -f examples/h200/conv-8b.yaml --data-dir "$OUT/conv" --json "$OUT/conv.json" \
        > "$OUT/conv.log" 2>&1
    say "study of the conversation trace ended: $?"
}

canary() {
    python3 -m benchmarks.h200.canary --data-dir "$OUT/canary" --json "$OUT/canary.json" > "$OUT/canary.log" 2>&1
    say "canary ended: $?"
}

say "begin"
study
canary
