"""Whatever is started anew in whatever step, the one without users included: every step ends as it would have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import cycle
from pathlib import Path

import pytest

from controlplane.adapters.gateway.hourly_files import append
from controlplane.adapters.gateway.record_feed import SpooledFeed
from controlplane.domain.base import EngineId, ServiceName
from controlplane.domain.door.gateway_files import records_dir, records_name
from controlplane.domain.door.gateway_options import GatewayOptions
from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.rollouts.analysis import Analysis, Verdict
from controlplane.domain.rollouts.replayed import GATEWAY as REPLAY
from controlplane.domain.rollouts.rollout import RolloutState
from controlplane.domain.rollouts.rollout_options import RolloutOptions, StepSpec
from controlplane.ports.gateways import NO_TIME, News, Position
from tests.fakes.traffic_router import FakeTrafficRouter
from tests.integration.controller.site import Site

GATEWAYS = ("gw-1", "gw-2")
USERS, REPLAYED = 80, 60  # a second
GIVEN_UP_S = 6.0  # by the gateway, so that steps of so few seconds are long enough for hangs to show
STEPS = tuple(StepSpec(weight_percent=each, min_s=GIVEN_UP_S, max_s=600) for each in (0, 20, 100))
GIVES_UP_SOON = GatewayOptions(first_token_timeout_s=GIVEN_UP_S, stall_timeout_s=GIVEN_UP_S)
OPTIONS = RolloutOptions(steps=STEPS, miss_ratio_margin=0.3, error_ratio_margin=0.3)
HARMED_AT_S = (1.0, 4.0)  # of a step: as it begins, and in its middle


class Reader:
    """The controller's feed, which may be another one at any moment."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.start_anew()

    def start_anew(self) -> None:
        self._feed = SpooledFeed(self._folder)

    def place(self, *, since: datetime, back: timedelta = NO_TIME, most_bytes: int = 0) -> Position:
        return self._feed.place(since=since, back=back, most_bytes=most_bytes)

    def follow(
        self, service: ServiceName, *, since: datetime, position: Position, until: Position | None = None
    ) -> Iterator[News]:
        return self._feed.follow(service, since=since, position=position, until=until)


class Drill:
    """A site whose two gateways write real files, and whose canary is sent what it misses."""

    def __init__(self, folder: Path, *, slow: bool = False) -> None:
        self.folder = records_dir(folder)
        self.folder.mkdir(parents=True)
        self.site = Site(router=FakeTrafficRouter(GATEWAYS))
        self.reader = Reader(folder)
        self.site.restart(records=self.reader)
        self.site.serving(rollout=OPTIONS, gateway=GIVES_UP_SOON)
        self.site.roll_out()
        if slow:
            self.site.slow.add(self.site.rollout.canary)
        self._turn = cycle(GATEWAYS)

    def write(self, gateway: str, *records: GatewayRecord) -> None:
        append(self.folder / records_name(gateway, self.site.clock()), records)

    def second(self) -> None:
        """A pass, and then what users and we sent: a gateway that is down gets nothing."""
        site = self.site
        site.passes(1)
        tables = {name: table for name, table in site.router.tables.items() if table and name not in site.router.down}
        for route in next(iter(tables.values())).services[0].revisions:
            for _ in range(USERS * route.weight_percent // 100):
                record = site._record(route.revision, route.backends[0].engine_id)
                gateway = next(name for name in self._turn if name in tables)
                self.write(gateway, record.evolve(gateway=gateway))
        if site.rollout.state is RolloutState.PROGRESSING and site.rollout.steps[-1].weight_percent < 100:
            canary = site.engines(site.rollout.canary)
            for _ in range(REPLAYED if canary else 0):
                ours = site._record(site.rollout.canary, canary[0].spec.engine_id)
                self.write(f"{REPLAY}-{site.service.name}", ours.evolve(gateway=REPLAY, replayed=True))

    def _due(self) -> set[tuple[int, float]]:
        """Return the moments of the present step that have come."""
        rollout = self.site.rollout
        if rollout.state is not RolloutState.PROGRESSING:
            return set()
        step = rollout.steps[-1]
        elapsed_s = (self.site.clock() - step.started_at).total_seconds()
        return {(step.index, at_s) for at_s in HARMED_AT_S if elapsed_s >= at_s}

    def to_the_end(self, harm: Harm | None = None) -> list[tuple[int, Verdict]]:
        """Run the rollout, harmed twice in every step; return how each step ended."""
        harmed = set[tuple[int, float]]()
        for _ in range(90):
            rollout = self.site.rollout
            if rollout.state in (RolloutState.PROMOTED, RolloutState.ABORTED, RolloutState.PAUSED):
                break
            if harm is not None:
                for due in self._due() - harmed:
                    harmed.add(due)
                    harm(self)
            self.second()
        assert harm is None or {index for index, _ in harmed} == {step.index for step in self.site.rollout.steps}
        return [(step.weight_percent, analysis_of(step.analysis).verdict) for step in self.site.rollout.steps]


Harm = Callable[[Drill], None]


def analysis_of(found: Analysis | None) -> Analysis:
    assert found is not None
    return found


def controller(drill: Drill) -> None:
    drill.site.restart(records=drill.reader)


def record_reader(drill: Drill) -> None:
    drill.reader.start_anew()


def gateway(drill: Drill) -> None:
    """It is gone for a pass, cuts what it served, leaves half a line, and comes back without a table."""
    site = drill.site
    for revision in (site.rollout.canary, site.rollout.stable):
        cut = site.record(revision, "e", ttft_ms=90, e2e_ms=100).evolve(error="gateway_stopped", truncated=True)
        drill.write("gw-1", *[cut.evolve(id=f"{cut.id}.{number}") for number in range(4)])
    with (drill.folder / records_name("gw-1", site.clock())).open("ab") as file:
        file.write(b'{"id":"half a li')
    site.router.down.add("gw-1")
    drill.second()
    site.router.down.discard("gw-1")
    site.router.tables["gw-1"] = None


def worker(drill: Drill) -> None:
    """It died with its trial's engine running."""
    site = drill.site
    like = site.engines()[0].spec
    number = len(site.fleet.list())
    site.fleet.start(like.evolve(engine_id=EngineId(f"trial-{number}"), owner=f"trial/lost/{number}"))


def everything(drill: Drill) -> None:
    gateway(drill)
    record_reader(drill)
    controller(drill)


@pytest.mark.parametrize("harm", [controller, record_reader, gateway, worker, everything])
def test_a_good_canary_passes_every_step_whatever_starts_anew_in_it(harm: Harm, tmp_path: Path) -> None:
    plain, harmed = Drill(tmp_path / "plain"), Drill(tmp_path / "harmed")
    expected = plain.to_the_end()
    assert expected == [(0, Verdict.PASS), (20, Verdict.PASS), (100, Verdict.PASS)]
    assert harmed.to_the_end(harm) == expected
    assert harmed.site.rollout.state is RolloutState.PROMOTED


@pytest.mark.parametrize("harm", [controller, record_reader, gateway, worker, everything])
def test_a_bad_canary_is_aborted_before_any_user_whatever_starts_anew(harm: Harm, tmp_path: Path) -> None:
    harmed = Drill(tmp_path, slow=True)
    assert harmed.to_the_end(harm) == [(0, Verdict.FAIL)]
    assert harmed.site.rollout.state is RolloutState.ABORTED


@pytest.mark.parametrize("harm", [controller, record_reader])
def test_who_only_reads_comes_to_the_very_same_counts(harm: Harm, tmp_path: Path) -> None:
    plain, harmed = Drill(tmp_path / "plain"), Drill(tmp_path / "harmed")
    plain.to_the_end()
    harmed.to_the_end(harm)
    for mine, theirs in zip(harmed.site.rollout.steps, plain.site.rollout.steps, strict=True):
        found, expected = analysis_of(mine.analysis), analysis_of(theirs.analysis)
        assert (found.canary, found.stable, found.replayed) == (expected.canary, expected.stable, expected.replayed)
        assert found.comparisons == expected.comparisons
