"""Write the schedule of a load profile as a timed trace that `vllm bench serve` replays: same instants, same lengths.

Usage: python -m benchmarks.h200.timed_trace PROFILE RATE_RPS DURATION_S FILE   (prints the number of requests)
"""

from __future__ import annotations

import json
import sys
from itertools import count
from pathlib import Path

from loadtests.profiles import load_profile
from loadtests.schedule import build_schedule

BLOCK_TOKENS = 16  # what --timed-trace-chunk-hash-size defaults to


def main(profile: str, rate_rps: float, duration_s: float, to: Path) -> int:
    traffic = load_profile(profile)
    assert traffic.workload is not None, f"{profile} has no workload of its own"
    schedule = build_schedule(traffic.workload, rate_rps=rate_rps, duration_s=duration_s, seed=traffic.seed)
    blocks = count()  # no two prompts share a block
    columns = (schedule.scheduled_s.tolist(), schedule.prompt_tokens.tolist(), schedule.output_tokens.tolist())
    with to.open("w") as file:
        for at_s, prompt, output in zip(*columns, strict=True):
            hashes = [next(blocks) for _ in range(-(-prompt // BLOCK_TOKENS))]
            row = {"timestamp": at_s, "input_length": prompt, "output_length": output, "hash_ids": hashes}
            file.write(json.dumps(row) + "\n")
    return len(schedule.scheduled_s)


if __name__ == "__main__":
    print(main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4])))
