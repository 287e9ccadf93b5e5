"""What those who follow the gateways' records cost: `python -m benchmarks.record_readers --rps 1000 --services 1`.

The real controller and the real watch of alerts on real files of records, everything else played, in fake time: a pass
each half second, a look for alerts each 15 s, the load matcher's each second. CPU time of this process, not wall clock.
Two situations: all services quiet (autoscaler, drift, alerts), and each with a canary under way (judge, matcher too).
`--apart` gives every reader files of its own to read, as before there was one reader for all.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from controlplane.adapters.gateway.record_feed import SpooledFeed
from controlplane.domain.base import ServiceName
from controlplane.domain.door.gateway_files import records_dir, records_name
from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.operations.autoscale_options import AutoscaleOptions
from controlplane.domain.operations.drift import DriftOptions, DriftPolicy
from controlplane.domain.rollouts.rollout import RolloutState
from controlplane.domain.rollouts.rollout_options import RolloutOptions, StepSpec
from controlplane.domain.service import ModelSpec, ServiceSpec
from controlplane.ports.gateways import NO_TIME, News, Position, RecordFeed
from controlplane.services.fleet.serving import register_service
from controlplane.services.operations.watch import AlertWatcher
from controlplane.services.rollouts.manage import start_rollout
from tests.builders_serving import a_spec
from tests.fakes.metrics_source import FakeMetricsSource
from tests.integration.controller.site import BETTER, Site

PASS_S, LOOK_EVERY, MATCH_EVERY = 0.5, 30, 2  # passes
GATEWAYS = ("gw-1", "gw-2")
BLOCKS = 64  # hashes in a record: prompts of a thousand tokens
LONG = RolloutOptions(steps=(StepSpec(weight_percent=5, min_s=1e5, max_s=1e6), StepSpec(weight_percent=100)))


class Apart:
    """A reader of its own for every question: nothing is read once for two."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir

    def place(self, *, since: datetime, back: timedelta = NO_TIME, most_bytes: int = 0) -> Position:
        return SpooledFeed(self._data_dir).place(since=since, back=back, most_bytes=most_bytes)

    def follow(
        self, service: ServiceName, *, since: datetime, position: Position, until: Position | None = None
    ) -> Iterator[News]:
        return SpooledFeed(self._data_dir).follow(service, since=since, position=position, until=until)


class Readers:
    """Services that serve, those who follow their records, and traffic that is written beside."""

    def __init__(self, data_dir: Path, feed: RecordFeed, *, services: int, rps: float, canaries: bool) -> None:
        self._folder = records_dir(data_dir)
        self._folder.mkdir(parents=True)
        self._rps, self._feed, self._canaries = rps, feed, canaries
        self._site = site = Site(gpus=4 * services)
        site.restart(records=feed)
        self._watcher = AlertWatcher(
            store=site.store,
            fleet=site.fleet,
            records=feed,
            metrics=FakeMetricsSource(site.clock, stale_after_s=60),
            router=site.router,
            clock=site.clock,
        )
        self._names = [ServiceName(f"chat-{number}") for number in range(services)]
        for name in self._names:
            register_service(site.store, _spec(name), actor="bench", now=site.clock())
        self._settle(8)
        for name in self._names if canaries else ():
            start_rollout(
                site.store, service=name, config=BETTER, replicas=1, options=LONG, actor="bench", now=site.clock()
            )
        self._settle(8)
        self._matched: dict[ServiceName, Position] = {}
        self._since, self._passes, self._sent = site.clock(), 0, 0

    def write(self) -> None:
        """Let half a second go by: what ends in it stands in the files of two gateways."""
        for gateway in GATEWAYS:
            lines = [self._line(gateway) for _ in range(round(self._rps * PASS_S / len(GATEWAYS)))]
            with (self._folder / records_name(gateway, self._site.clock())).open("ab") as file:
                file.write(b"".join(lines))
        self._site.clock.go_on(PASS_S)

    def look(self) -> None:
        """What a controller's process does in half a second."""
        problems = self._site.controller.run_pass()
        assert not problems, problems
        self._passes += 1
        if self._passes % LOOK_EVERY == 0:
            self._watcher.run()
        if self._canaries and self._passes % MATCH_EVERY == 0:
            self._match()

    def check(self) -> None:
        """Make sure that what is to be measured is going on."""
        rollouts = [saved.value for name in self._names for saved in self._site.store.list_rollouts(name)]
        assert all(each.state is RolloutState.PROGRESSING for each in rollouts), [str(each.state) for each in rollouts]
        assert len(rollouts) == (len(self._names) if self._canaries else 0)

    def _match(self) -> None:
        """Follow as the load matcher does; it would count users' requests."""
        for name in self._names:
            for news in self._feed.follow(name, since=self._since, position=self._matched.get(name, {})):
                self._matched[name] = news.position

    def _settle(self, passes: int) -> None:
        for _ in range(passes):
            self._site.clock.go_on(PASS_S)
            self._site.controller.run_pass()

    def _line(self, gateway: str) -> bytes:
        self._sent += 1
        route = self._site.table.services[self._sent % len(self._names)]
        split = route.revisions[0 if self._sent % 20 else -1]
        record = GatewayRecord(
            id=f"r{self._sent}",
            at=self._site.clock() + timedelta(milliseconds=1),
            gateway=gateway,
            service=str(route.service),
            model="m",
            revision=split.revision,
            engine_id=split.backends[0].engine_id,
            path="/v1/chat/completions",
            stream=True,
            status=200,
            prompt_tokens=1024,
            output_tokens=128,
            ttft_ms=100.0 + self._sent % 7,
            tpot_ms=10.0,
            e2e_ms=400.0,
            ahead=self._sent % 5,
            prefix_blocks=tuple(range(1 << 60, (1 << 60) + BLOCKS)),
        )
        return record.model_dump_json().encode() + b"\n"


def _spec(name: ServiceName) -> ServiceSpec:
    return a_spec(
        name=name,
        model=ModelSpec(name=f"model-of-{name}", path="llama-8b"),
        autoscale=AutoscaleOptions(enabled=True, capacity_rps=1e6, max_replicas=2),
        drift=DriftOptions(policy=DriftPolicy.TELL),
    )


def _measured(asked: argparse.Namespace, *, canaries: bool) -> Sequence[float]:
    with tempfile.TemporaryDirectory() as folder:
        feed: RecordFeed = (Apart if asked.apart else SpooledFeed)(Path(folder))
        readers = Readers(Path(folder), feed, services=asked.services, rps=asked.rps, canaries=canaries)
        took = []
        for _ in range(asked.passes):
            readers.write()
            began = time.process_time()
            readers.look()
            took.append(time.process_time() - began)
        readers.check()
    return took[LOOK_EVERY:]  # the first look of each is no pass as any other


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rps", type=float, default=1000.0, help="Of all services together.")
    parser.add_argument("--services", type=int, default=1)
    parser.add_argument("--passes", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--apart", action="store_true")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    found: dict[str, object] = {key: getattr(asked, key) for key in ("rps", "services", "passes", "rounds", "apart")}
    for canaries in (False, True):
        rounds = [_measured(asked, canaries=canaries) for _ in range(asked.rounds)]
        median_s = statistics.median(statistics.median(took) for took in rounds)
        share = statistics.median(statistics.fmean(took) / PASS_S for took in rounds)
        found["canaries" if canaries else "quiet"] = {"median_ms": 1e3 * median_s, "of_a_core_percent": 100 * share}
        said = "a canary each" if canaries else "quiet"
        print(
            f"{said}: a pass takes {1e3 * median_s:.1f} ms of a processor (median), all readers {share:.1%} of a core"
        )
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found["peak_mib"] = peak_mib
    print(f"{asked.services} services, {asked.rps:g} requests/s, {asked.rounds} rounds; peak {peak_mib:.0f} MiB")
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
