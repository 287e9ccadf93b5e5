"""How far the generator can be trusted on this machine: measured against a server whose latencies are known."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from controlplane.domain.errors import Unavailable
from controlplane.domain.report import Distribution, Validity
from controlplane.domain.workload import Lengths, SyntheticWorkload
from controlplane.host.addresses import url_of
from controlplane.host.ports import loopback
from loadtests.loadtest import LoadTest, run_load_test
from loadtests.send.runner import Generator

TOKENS = 32
FIRST_MS, GAP_MS = 50.0, 10.0
WORST_ERROR = 0.05
_WORKLOAD = SyntheticWorkload(prompt_tokens=Lengths(mean=64), output_tokens=Lengths(mean=TOKENS))


class Truth(NamedTuple):
    """What the server really did: P99 of each latency, ms, from the kernel's stamp of each request's arrival."""

    ttft_ms: float
    tpot_ms: float
    e2e_ms: float
    requests: int


class CheckRow(NamedTuple):
    """One rate. Errors are of P99: 0.05 is 5 % too much."""

    rate_rps: float
    tokens_per_s: float
    ttft_error: float
    tpot_error: float
    itl_error: float
    e2e_error: float
    lag_p99_ms: float
    cpu_percent: float
    timer_late_ms: float  # P99 of an idle thread's timer: the host's own part of the lag
    steal_percent: float
    holds: bool
    reason: str


@contextmanager
def truth_server(truth_path: Path, *, core: int | None = None, port: int = 0, shared: bool = False) -> Iterator[str]:
    """Run the ground-truth server and give its URL; at the end it writes what it did to `truth_path`.

    Several `shared` ones may listen on one port: the kernel spreads connections over them.
    """
    command = [sys.executable, "-m", "loadtests.measure.ground_truth", "--truth", str(truth_path)]
    command += ["--first-ms", str(FIRST_MS), "--gap-ms", str(GAP_MS)]
    host = loopback()
    command += ["--host", host, "--port", str(port), *(["--shared"] if shared else [])]
    command += [] if core is None else ["--core", str(core)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]) as server:
        assert server.stdout is not None
        listening = server.stdout.readline().strip()
        if not listening:
            raise Unavailable("the ground-truth server did not start")
        try:
            yield url_of(host, int(listening))
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(30)


def read_truth(*paths: Path, skip: int = 0) -> Truth:
    """Read what the servers wrote, leaving out their first `skip` requests (the warm-up)."""
    rows: npt.NDArray[np.int64] = np.concatenate([np.fromfile(path, dtype=np.int64) for path in paths]).reshape(-1, 4)
    rows = rows[np.argsort(rows[:, 0], kind="stable")][skip:]
    came, first, last, tokens = rows.T
    ttft, e2e = (first - came) / 1e6, (last - came) / 1e6
    tpot = (last - first) / 1e6 / np.maximum(tokens - 1, 1)
    p99 = np.percentile(np.stack((ttft, tpot, e2e)), 99, axis=1).tolist()
    return Truth(p99[0], p99[1], p99[2], len(rows))


def selfcheck(rates: Sequence[float], *, seconds: float, processes: int = 1, core: int | None = None) -> list[CheckRow]:
    """Run each rate for `seconds` after a second of warm-up. Raises Unavailable when generator or server broke."""
    with Generator(processes=processes) as generator, tempfile.TemporaryDirectory(prefix="fleetune-check-") as scratch:
        return [_check(rate, seconds, processes, generator, Path(scratch), core) for rate in rates]


def _check(
    rate: float, seconds: float, processes: int, generator: Generator, scratch: Path, core: int | None
) -> CheckRow:
    truth_path = scratch / "truth"
    with truth_server(truth_path, core=core) as url:
        test = LoadTest(_WORKLOAD, rate, url, "truth", seconds, warmup_s=1.0, processes=processes)
        report = run_load_test(test, generator, out_dir=scratch / "run").report
    truth = read_truth(truth_path, skip=max(0, round(rate)))
    errors = (
        _p99(report.ttft_ms) / truth.ttft_ms - 1,
        _p99(report.tpot_ms) / truth.tpot_ms - 1,
        _p99(report.itl_ms) / GAP_MS - 1,
        _p99(report.e2e_ms) / truth.e2e_ms - 1,
    )
    reason = _reason(report.invalid_reason if report.validity is Validity.INVALID else None, report.errors, errors)
    cpu = report.generator_cpu_percent or 0.0
    host = (report.timer_late_ms or 0.0, report.steal_percent or 0.0)
    return CheckRow(rate, rate * TOKENS, *errors, _p99(report.lag_ms), cpu, *host, not reason, reason)


def _reason(invalid: str | None, failed: int, errors: tuple[float, ...]) -> str:
    if invalid:
        return invalid
    if failed:
        return f"{failed} requests failed"
    judged = (errors[0], errors[1], errors[3])  # gaps are the server's own jitter as much as ours: shown, not judged
    worst = max(judged, key=abs)
    return f"an error of {100 * worst:+.1f} %" if abs(worst) > WORST_ERROR else ""


def _p99(values: Distribution) -> float:
    found = values.at(99.0)
    return found.value if found else float("nan")
