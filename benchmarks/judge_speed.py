"""What a look of the judge costs with many records in a step: `python -m benchmarks.judge_speed --records 100000`.

A step's records lie in a spool; the first look of a new controller reads them all, each later one what came since.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from controlplane.adapters.gateway.record_feed import SpooledFeed
from controlplane.domain.base import RevisionId, ServiceName
from controlplane.domain.door.gateway_files import records_dir, records_name
from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.rollouts.arm import Arm
from controlplane.domain.rollouts.comparing import Control, Evidence
from controlplane.domain.rollouts.effects import Latencies, effects
from controlplane.domain.rollouts.judge import judge
from controlplane.domain.rollouts.rollout_options import RolloutOptions, StepSpec
from controlplane.domain.slo import LatencyMetric, LatencySlo, SloSet
from controlplane.ports.gateways import Position

CHAT = ServiceName("chat")
SLOS = SloSet(latency=(LatencySlo(metric=LatencyMetric.TTFT, percentile=99, limit_ms=500),), target_qps=1000)
PER_LOOK = 500  # half a second at 1,000 requests/s
NOTHING = Arm((), time_lapse=1.0).curves()
START = datetime(2026, 1, 1, 10, tzinfo=UTC)


def lines(first: int, count: int) -> bytes:
    """Return so many records as a gateway writes them, every twentieth the canary's."""
    made = (
        GatewayRecord(
            id=str(number),
            at=START + timedelta(milliseconds=number),
            gateway="gw-1",
            service=CHAT,
            model="m",
            revision=RevisionId("canary" if number % 20 == 0 else "stable"),
            engine_id="e",
            path="/v1/chat/completions",
            stream=True,
            status=200,
            ttft_ms=100.0,
            tpot_ms=10.0,
            e2e_ms=1000.0,
            prefix_blocks=tuple(range(64)),
        )
        for number in range(first, first + count)
    )
    return b"".join(record.model_dump_json().encode() + b"\n" for record in made)


def look(source: SpooledFeed, arms: dict[str, Arm], position: Position) -> tuple[Position, float]:
    """Count what is new and judge; return where to go on and the seconds it took."""
    began = time.perf_counter()
    for news in source.follow(CHAT, since=START, position=position):
        for record in news.records:
            arms[str(record.revision)].add(record)
        position = news.position
    counts = {name: arm.counts() for name, arm in arms.items()}
    curves = {name: arm.curves() for name, arm in arms.items()}
    seen = Latencies(curves["canary"], NOTHING, curves["stable"], before=NOTHING)
    slower = effects(seen, RolloutOptions())
    evidence = Evidence(canary=counts["canary"], stable=counts["stable"], control=Control.CONCURRENT, effects=slower)
    judge(evidence, SLOS, RolloutOptions(), StepSpec(weight_percent=5), started_at=START, now=START)
    return position, time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--looks", type=int, default=20)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = records_dir(Path(folder)) / records_name("gw-1", START)
        path.parent.mkdir(parents=True)
        path.write_bytes(lines(0, asked.records))
        source = SpooledFeed(Path(folder))
        arms = {name: Arm(SLOS.latency, time_lapse=1.0) for name in ("canary", "stable")}
        position, first_s = look(source, arms, {})
        later: list[float] = []
        for number in range(asked.looks):
            with path.open("ab") as file:
                file.write(lines(asked.records + number * PER_LOOK, PER_LOOK))
            position, took_s = look(source, arms, position)
            later.append(took_s)
    later.sort()
    print(f"{asked.records} records in the step: first look {first_s:.2f} s")
    print(f"each later look ({PER_LOOK} new): median {1e3 * later[len(later) // 2]:.0f}, max {1e3 * later[-1]:.0f} ms")


if __name__ == "__main__":
    main()
