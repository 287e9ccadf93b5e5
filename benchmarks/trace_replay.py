"""A day of arrivals in minutes: `python -m benchmarks.trace_replay`.

24 hours are made of the Azure conversation trace (25 stretches of its hour), lengths kept, sent to the ground-truth
server with the trace's own arrivals, scaled. Prints how exactly the schedule was kept and how the generator's memory
grew. The target server and the generator share this machine.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from controlplane.domain.workload import ArrivalProcess, Arrivals, TraceWorkload
from loadtests.loadtest import LoadTest, run_load_test
from loadtests.plan import Timeouts
from loadtests.runner import Generator
from loadtests.selfcheck import truth_server
from loadtests.traces import load_trace


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--hours", type=float, default=24.0, help="of trace; fewer for a short try at the same rate")
    parser.add_argument("--output-tokens", type=int, default=4, help="answers are cut to this")
    options = parser.parse_args()
    trace = load_trace("azure-llm-2023/conv")
    seconds = 60 * options.minutes * options.hours / 24
    rate = trace.rate_rps * 3600 * options.hours / seconds
    workload = TraceWorkload(
        trace=trace.name,
        arrivals=Arrivals(process=ArrivalProcess.TRACE),
        max_prompt_tokens=64,
        max_output_tokens=options.output_tokens,
    )
    with tempfile.TemporaryDirectory(prefix="fleetune-day-") as scratch, Generator() as generator:
        folder = Path(scratch)
        with truth_server(folder / "truth", core=0) as url:
            test = LoadTest(workload, rate, url, "truth", seconds, timeouts=Timeouts(total_s=60))
            report = run_load_test(test, generator, out_dir=folder / "run").report
        memory = [json.loads(line)["max_rss_mib"] for line in (folder / "run" / "status-0.jsonl").open()]
    lag = report.lag_ms.at(99.0)
    print(f"{report.requests} requests ({rate:.0f}/s), {report.errors} errors, {report.validity.value}")
    print(f"P99 schedule lag {lag.value if lag else float('nan'):.3f} ms (target 1 ms)")
    print(f"generator memory: {memory[len(memory) // 10]:.0f} MiB after a tenth, {memory[-1]:.0f} MiB at the end")


if __name__ == "__main__":
    main()
