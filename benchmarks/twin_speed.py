"""How fast the twin is: 20 s of the conversation trace at 20 requests/s on the 8B profile, one core.

    python benchmarks/twin_speed.py [--rate 20] [--seconds 20] [--repeats 50]

Prints the first call (with compiling, or loading compiled code), the median and worst of the repeats, how many times
real time that is, and the growth of memory over the repeats. Target: at most 10 ms after warm-up, memory flat.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable

import numpy as np

from controlplane.domain.engines.engine import EngineConfig
from loadtests.send.traces import load_trace
from tuner.twin.setup import resolve
from tuner.twin.shapes import load_shape
from tuner.twin.simulate import RequestArrays, simulate

TARGET_MS = 10.0


def main() -> None:
    """Run the benchmark and print one line per figure."""
    options = _options()
    setup = resolve(load_shape("llama-8b"), "H200", EngineConfig(flags={"max-model-len": 8192, "max-num-seqs": 256}))
    requests = conversation(options.rate, options.seconds, seed=options.seed)
    first_ms = _timed_ms(lambda: simulate(setup, requests))
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times_ms = [_timed_ms(lambda: simulate(setup, requests)) for _ in range(options.repeats)]
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib
    median_ms = float(np.median(times_ms))
    print(f"profile {setup.profile.name}, {len(requests.scheduled_s)} requests in {options.seconds:g} s")
    print(f"first call {first_ms:.0f} ms")
    print(f"median {median_ms:.2f} ms, worst {max(times_ms):.2f} ms of {options.repeats} (target {TARGET_MS:g} ms)")
    print(f"{options.seconds * 1e3 / median_ms:,.0f} x real time; memory grew {grown_kib} KiB")


def conversation(rate_rps: float, seconds: float, *, seed: int) -> RequestArrays:
    """Return rows of the conversation trace in a seeded order (7000 in, 1000 out at most), Poisson arrivals."""
    trace, rng = load_trace("azure-llm-2023/conv"), np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(1 / rate_rps, int(rate_rps * seconds * 1.5)))
    arrivals = arrivals[arrivals < seconds]
    rows = rng.permutation(len(trace))[: len(arrivals)]
    return RequestArrays(
        scheduled_s=arrivals,
        prompt_tokens=np.clip(trace.prompt_tokens[rows], 1, 7000),
        output_tokens=np.clip(trace.output_tokens[rows], 1, 1000),
    )


def _timed_ms(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=20.0, help="requests per second")
    parser.add_argument("--seconds", type=float, default=20.0, help="of arrivals")
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
