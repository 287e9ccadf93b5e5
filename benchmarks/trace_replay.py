"""A day of arrivals in minutes: `python -m benchmarks.trace_replay`.

24 hours are made of the Azure conversation trace (25 stretches of its hour), lengths kept, sent to the ground-truth
server with the trace's own arrivals, scaled. Prints how exactly the schedule was kept and how the generator's memory
grew. The target server has one core, the generator another (`--cores SERVER,GENERATOR`). `--keep FOLDER` keeps the
records.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from controlplane.domain.workload import ArrivalProcess, Arrivals, TraceWorkload
from loadtests.loadtest import LoadTest, run_load_test
from loadtests.selfcheck import truth_server
from loadtests.send.plan import Timeouts
from loadtests.send.runner import Generator
from loadtests.send.traces import load_trace


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--hours", type=float, default=24.0, help="of trace; fewer for a short try at the same rate")
    parser.add_argument("--output-tokens", type=int, default=4, help="answers are cut to this")
    parser.add_argument("--cores", default="0,1", help="of the server and of the generator")
    parser.add_argument("--keep", type=Path, help="folder for records and status lines")
    options = parser.parse_args()
    server_core, generator_core = map(int, options.cores.split(","))
    trace = load_trace("azure-llm-2023/conv")
    seconds = 60 * options.minutes * options.hours / 24
    rate = trace.rate_rps * 3600 * options.hours / seconds
    workload = TraceWorkload(
        trace=trace.name,
        arrivals=Arrivals(process=ArrivalProcess.TRACE),
        max_prompt_tokens=64,
        max_cut_share=1,
        max_output_tokens=options.output_tokens,
    )
    with tempfile.TemporaryDirectory(prefix="fleetune-day-") as scratch, _on(generator_core), Generator() as generator:
        folder = options.keep or Path(scratch)
        generator.start()
        os.sched_setaffinity(0, {server_core})  # the child has inherited its own core
        folder.mkdir(parents=True, exist_ok=True)
        with truth_server(folder / "truth", core=server_core) as url:
            test = LoadTest(workload, rate, url, "truth", seconds, timeouts=Timeouts(total_s=60))
            report = run_load_test(test, generator, out_dir=folder / "run").report
        memory = [json.loads(line)["max_rss_mib"] for line in (folder / "run" / "status-0.jsonl").open()]
    lag = report.lag_ms.at(99.0)
    print(f"{report.requests} requests ({rate:.0f}/s), {report.errors} errors, {report.validity.value}")
    print(f"P99 schedule lag {lag.value if lag else float('nan'):.3f} ms (target 1 ms)")
    print(f"generator CPU {report.generator_cpu_percent or 0.0:.0f} % of its core")
    print(f"generator memory: {memory[len(memory) // 10]:.0f} MiB after a tenth, {memory[-1]:.0f} MiB at the end")


@contextlib.contextmanager
def _on(core: int) -> Iterator[None]:
    """Start children on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


if __name__ == "__main__":
    main()
