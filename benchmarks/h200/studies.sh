#!/bin/bash
# Whole studies of a real vLLM on two H200s (or $GPUS), one after the other: of the services examples/h200/NAME.yaml.
# Each is a baseline, at least three further configurations and the confirmation: 9 to 17 minutes of wall clock, two
# engines at a time. A study that a time limit cut is gone on with by the next call: its state lies in $STATE.
# Usage: studies.sh FOLDER (results) [NAME ...] (conv-8b code-8b); from the project's root, vLLM and the dependencies in $SITE.
set -u
OUT=$1
shift
NAMES=${*:-conv-8b code-8b}
GPUS=${GPUS:-2}
STATE=${STATE:-/tmp/fleetune-h200}
LIMIT_S=${LIMIT_S:-550}  # of this call: what is there then is copied to FOLDER, and the studies can be gone on with
END=$((SECONDS + LIMIT_S))
. benchmarks/h200/environment.sh
mkdir -p "$STATE"

is_over() {
    python3 -c 'import json, sys; sys.exit(json.load(open(sys.argv[1]))["study"]["state"] not in ("done", "failed"))' \
        "$1" 2> /dev/null
}

study() {
    local name=$1 service resume=() left=$((END - SECONDS))
    [ -e "$STATE/$name.json" ] && say "$name is done" && return
    [ "$left" -lt 30 ] && say "no time left for $name" && return
    [ -s "$STATE/$name.id" ] && resume=(--resume "$(cat "$STATE/$name.id")")
    say "$name begins ${resume[*]}"
    timeout --signal=INT --kill-after=25 "$left" fleetune tune -f "examples/h200/$name.yaml" --workers "$GPUS" --gpus "$GPUS" \
        --data-dir "$STATE/$name" --json "$STATE/$name.part.json" "${resume[@]}" >> "$STATE/$name.log" 2>&1
    local ended=$?
    service=$(sed -n 's/^name: //p' "examples/h200/$name.yaml")
    grep -o -m 1 "study $service-[0-9]*" "$STATE/$name.log" | cut -d' ' -f2 > "$STATE/$name.id"
    is_over "$STATE/$name.part.json" && mv "$STATE/$name.part.json" "$STATE/$name.json"
    say "$name ended: $ended"
}

keep() {
    cp "$STATE"/*.json "$STATE"/*.log "$OUT"/ 2> /dev/null
    for name in $NAMES; do
        [ -e "$STATE/$name/fleetune.db" ] || continue
        mkdir -p "$OUT/$name"
        rm -f "$OUT/$name/fleetune.db"
        python3 -c 'import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute("VACUUM INTO ?", (sys.argv[2],))' \
            "$STATE/$name/fleetune.db" "$OUT/$name/fleetune.db"
        cp -r "$STATE/$name/logs" "$STATE/$name/engines" "$OUT/$name/" 2> /dev/null
        [ -s "$STATE/$name.id" ] && python3 -c 'import plotly' 2> /dev/null && fleetune report "$(cat "$STATE/$name.id")" \
            --data-dir "$STATE/$name" --html "$OUT/$name.html" >> "$OUT/progress.log" 2>&1
    done
    say "kept in $OUT"
}

say "begin"
for name in $NAMES; do study "$name"; done
keep
