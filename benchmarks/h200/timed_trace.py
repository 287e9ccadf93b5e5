"""Write the schedule of a profile as JSON lines that `vllm bench serve --dataset-name timed_trace` replays.

Usage: python -m benchmarks.h200.timed_trace PROFILE RATE DURATION_S FILE   (prints how many requests)
Every prompt is one block of its own, so nothing is shared; vLLM reads at most CHUNK_TOKENS of a block.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from loadtests.send.profiles import load_profile
from loadtests.send.schedule import Schedule

CHUNK_TOKENS = 8192


def main(profile: str, rate_rps: float, duration_s: float, out: Path) -> None:
    chosen = load_profile(profile).evolve(rate_rps=rate_rps, duration_s=duration_s)
    schedule = chosen.schedule()
    out.write_text(timed_trace(schedule))
    print(len(schedule))


def timed_trace(schedule: Schedule) -> str:
    """Return one line per request: instant in seconds, lengths in tokens, one block id no other request has."""
    columns = (schedule.scheduled_s.tolist(), schedule.prompt_tokens.tolist(), schedule.output_tokens.tolist())
    return "".join(
        json.dumps({"timestamp": at_s, "input_length": prompt, "output_length": output, "hash_ids": [index]}) + "\n"
        for index, (at_s, prompt, output) in enumerate(zip(*columns, strict=True))
    )


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4]))
