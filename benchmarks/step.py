"""Three times the traffic at once on real emulator processes, and back: how long the SLO is missed, and who is cut off.

    python -m benchmarks.step [--rounds 3] [--startup-s 10] [--rate 3] [--json PATH]

A whole installation, one replica that is declared to sustain 4.5 requests/s (it does 5), streams of some 60 tokens.
Each round adds twice the rate to what comes, keeps it until everybody is served well again for 20 s, takes it away,
and waits until the autoscaler has let the replicas go. The SLO (P90 of the first token, 1 s) is missed in every five
seconds of arrivals of which more than a tenth missed it or failed. At the end both load generators count what was cut.

A round takes two to three minutes, of which 90 s at least are the window of the load and that of the autoscaler before
a replica goes. It is told as it ends and the file is written anew; `requests` and what was cut are then of the steps
alone, and of the steady load too once all rounds are done.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from benchmarks.figures import asked_as, keep, rounds_parser, say, tell
from controlplane.adapters.gateway.records_spool import SpooledRecords
from controlplane.cli.traffic import LiveTraffic
from controlplane.domain.door.outcomes import read_outcome
from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.report import LoadTestReport
from controlplane.domain.slo import LatencySlo
from tests.e2e.loop.installation import SERVICE, Installation

BUCKET_S = 5.0
CALM_S = 20.0
CAPACITY_RPS = 4.5
"""With the headroom of 15 % one replica is enough for 3.8 requests/s. At 4 it was for 3.4, which the Poisson arrivals
of 3 requests/s exceed in a tenth of all windows of 30 s: the replica more was kept for minutes, rightly."""
_LONGEST_S = 300.0


class Round(NamedTuple):
    """Wall-clock seconds from the first request of the step on."""

    missed_s: float  # until the end of the last five seconds in which the SLO was missed
    startup_s: float  # the longest of the engines that the step started, from process to ready
    allowed_s: float
    replicas: int
    back_s: float  # from the end of the step until one replica is left


def service(startup_s: float) -> dict[str, Any]:
    emulator = {"startup_s": startup_s, "time_lapse": 1, "max_lag_ms": 1000}
    engine = SERVICE["engine"] | {"emulator": emulator, "flags": SERVICE["engine"]["flags"] | {"max-num-seqs": 8}}
    scale = {"enabled": True, "window_s": 30, "scale_in_after_s": 60, "capacity_rps": CAPACITY_RPS}
    return SERVICE | {
        "engine": engine,
        "gpus": SERVICE["gpus"] | {"count": 8},
        "autoscale": scale | {"startup_s": startup_s, "forecast": False},
        "workload": SERVICE["workload"] | {"output_tokens": {"mean": 60, "cv": 0.3}},
        "slos": SERVICE["slos"] | {"latency": [{"metric": "ttft_ms", "percentile": 90, "limit_ms": 1000}]},
    }


def missed_for_s(records: Sequence[GatewayRecord], slos: Sequence[LatencySlo], step_at: datetime) -> float:
    """Return seconds from the step to the end of the last bucket of arrivals that missed an SLO; 0: none did."""
    came: Counter[int] = Counter()
    missed: dict[LatencySlo, Counter[int]] = {slo: Counter() for slo in slos}
    for record in records:
        bucket = int((record.at - step_at).total_seconds() // BUCKET_S)
        came[bucket] += 1
        for slo in read_outcome(record, slos).missed:
            missed[slo][bucket] += 1
    late = [
        bucket
        for slo, counts in missed.items()
        for bucket, count in counts.items()
        if bucket >= 0 and count > slo.allowed_miss_ratio * came[bucket]
    ]
    return BUCKET_S * (max(late) + 1) if late else 0.0


class Drill:
    """One installation under a steady load, and steps on it."""

    def __init__(self, installation: Installation, *, rate_rps: float) -> None:
        self._installation = installation
        self._rate_rps = rate_rps
        self._slos = installation.spec.slos.latency
        self.reports: list[LoadTestReport] = []

    def one(self) -> Round:
        """Step up, wait until all is well, step down, wait until one replica is left."""
        installation = self._installation
        installation.until("one replica serves", lambda: self._serving() == 1, within_s=_LONGEST_S)
        known = {each["spec"]["engine_id"] for each in installation.engines()}
        traffic = installation.traffic(2 * self._rate_rps)
        traffic.start()
        installation.until("the step has begun", lambda: _sent(traffic) > 0)
        step_at = datetime.now(UTC)
        installation.until("all is well again", lambda: self._is_well(step_at), within_s=_LONGEST_S)
        started = [each for each in installation.engines() if each["spec"]["engine_id"] not in known]
        startup_s = max((_startup_s(each) for each in started if each["ready_at"]), default=0.0)
        missed_s, replicas = self._missed_s(step_at), self._serving()
        say(f"served well by {replicas} replicas, the SLO was missed for {missed_s:g} s; now the step ends")
        self.reports.append(traffic.stop())
        began = time.monotonic()
        installation.until("one replica is left", lambda: self._serving() == 1, within_s=_LONGEST_S)
        return Round(missed_s, startup_s, startup_s + 30, replicas, time.monotonic() - began)

    def _is_well(self, step_at: datetime) -> bool:
        """Say whether it has been well for a while since the first new replica came."""
        seconds = (datetime.now(UTC) - step_at).total_seconds()
        return self._serving() > 1 and seconds > self._missed_s(step_at) + CALM_S

    def _missed_s(self, step_at: datetime) -> float:
        """What is still unanswered is no record yet; it is once its first token came and its stream ended."""
        records = SpooledRecords(self._installation.data_dir).read(
            self._installation.spec.service, since=step_at - timedelta(seconds=BUCKET_S)
        )
        return missed_for_s(records, self._slos, step_at)

    def _serving(self) -> int:
        return self._installation.ready_engines()


def _sent(traffic: LiveTraffic) -> int:
    return traffic.latest.sent if traffic.latest is not None else 0


def _startup_s(engine: dict[str, Any]) -> float:
    began, ready = (datetime.fromisoformat(engine[name]) for name in ("started_at", "ready_at"))
    return (ready - began).total_seconds()


def measure(args: argparse.Namespace, folder: Path, known: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Return the figures; `known` is given those so far after each round."""
    installation = Installation(folder, service(args.startup_s), workers=0)
    rounds: list[Round] = []
    try:
        installation.up()
        drill, steady = Drill(installation, rate_rps=args.rate), installation.traffic(args.rate)
        steady.start()
        say(f"{args.rate:g} requests/s for {args.settle_s:g} s, until the autoscaler has seen its window")
        time.sleep(args.settle_s)
        for number in range(args.rounds):
            rounds.append(drill.one())
            say(f"round {number + 1} of {args.rounds}: {rounds[-1]}")
            known(figures(rounds, drill.reports, of=args.rounds))
        return figures(rounds, [*drill.reports, steady.stop()], of=args.rounds)
    finally:
        installation.down()


def figures(rounds: Sequence[Round], reports: Sequence[LoadTestReport], *, of: int) -> dict[str, Any]:
    """Return what the rounds that were made came to. `of`: how many are to be."""
    return {
        "of_rounds": of,
        "within": sum(each.missed_s <= each.allowed_s for each in rounds),
        "requests": sum(each.requests for each in reports),
        "failed": sum(each.errors for each in reports),
        "truncated": sum(each.truncated for each in reports),
        "unfinished": sum(each.unfinished for each in reports),
        "rounds": [each._asdict() for each in rounds],
    }


def main() -> None:
    parser = rounds_parser(__doc__, rounds=3, startup_s=10.0)
    parser.add_argument("--rate", type=float, default=3.0)
    parser.add_argument("--settle-s", type=float, default=40.0)
    args = parser.parse_args()

    def whole(found: dict[str, Any]) -> dict[str, Any]:
        return asked_as("step") | {"load_average": psutil.getloadavg()} | found

    with tempfile.TemporaryDirectory() as folder:
        found = measure(args, Path(folder), lambda found: keep(whole(found), args.json))
    tell(whole(found), args.json)


if __name__ == "__main__":
    main()
