"""How many requests of its users a recording needs to be like those to come: `python -m benchmarks.recording_size`.

On the shipped traces: mean lengths of the k requests before a moment beside those of the 420 after it, which is what a
step is usually judged on, at 400 moments of each trace. The whole trace stands for a declared workload that was right
on average. Relative differences, in percent: median and 95th percentile of moments.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.figures import asked_as, tell
from loadtests.send.traces import SHIPPED, load_trace

SIZES = (30, 100, 300, 1000, 3000)
JUDGED = 420
MOMENTS = 400
Lengths = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def differences(lengths: Lengths, size: int, moments: Lengths) -> Floats:
    """Return |mean before / mean after − 1| at each moment; a size of 0 stands for the whole trace."""
    before = [lengths[at - size : at] if size else lengths for at in moments]
    after = [lengths[at : at + JUDGED] for at in moments]
    return np.array([abs(b.mean() / a.mean() - 1) for b, a in zip(before, after, strict=True)])


def _points(differing: Floats) -> list[float]:
    return [round(100 * float(np.percentile(differing, percentile)), 1) for percentile in (50, 95)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found: dict[str, Any] = {**asked_as("recording_size"), "seed": args.seed}
    for name in SHIPPED:
        trace = load_trace(name)
        moments = np.random.default_rng(args.seed).integers(max(SIZES), len(trace) - JUDGED, MOMENTS)
        for column, lengths in (("prompt_tokens", trace.prompt_tokens), ("output_tokens", trace.output_tokens)):
            rows = {size or "the whole trace": differences(lengths, size, moments) for size in (*SIZES, 0)}
            found[f"{name} {column}"] = {str(size): _points(each) for size, each in rows.items()}
    tell(found, args.json)


if __name__ == "__main__":
    main()
