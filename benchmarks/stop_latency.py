"""How long a load test goes on after it was told to stop: `python -m benchmarks.stop_latency`.

A level of the rate ladder ends as soon as its outcome is certain, with requests in flight. Sends Azure's code trace,
tells the generator to stop once 8 requests are in flight and 5 s are over, and prints how long it took: against the
ground-truth server (first token after 50 ms, then one every 10 ms), or an engine that is up (`--target URL --model M`).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from controlplane.domain.errors import Unavailable
from controlplane.domain.workload import TraceWorkload
from loadtests.loadtest import LoadTest, run_load_test
from loadtests.selfcheck import truth_server
from loadtests.send.runner import Generator, Progress

_AFTER_S = 5.0
_IN_FLIGHT = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", help="URL of an engine; the ground-truth server when left out")
    parser.add_argument("--model", default="truth")
    parser.add_argument("--rate", type=float, default=60.0, help="requests/s")
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fleetune-stop-") as scratch, ExitStack() as servers:
        url = options.target or servers.enter_context(truth_server(Path(scratch) / "truth"))
        for run in range(options.runs):
            workload = TraceWorkload(trace="azure-llm-2023/code")
            test = LoadTest(workload, options.rate, url, options.model, 40.0, seed=options.seed + run)
            print(_stopped(test, Path(scratch) / str(run)), flush=True)


def _stopped(test: LoadTest, out_dir: Path) -> str:
    told: list[float] = []

    def watch(progress: Progress) -> str | None:
        if progress.elapsed_s < _AFTER_S or progress.in_flight < _IN_FLIGHT:
            return None
        told.append(time.monotonic())
        return "certain"

    with Generator() as generator:
        try:
            report = run_load_test(test, generator, out_dir=out_dir, watch=watch).report
        except Unavailable as error:
            return f"did not stop: {error}"
    if not told:
        return f"never had {_IN_FLIGHT} requests in flight"
    return f"stopped after {time.monotonic() - told[0]:.2f} s, with {report.unfinished} requests in flight"


if __name__ == "__main__":
    main()
