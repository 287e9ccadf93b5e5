"""A step's records are read some at a pass, in an order that a restart and the mix of gateways do not change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlplane.adapters.gateway import record_feed
from controlplane.adapters.gateway.hourly_files import PIECE_BYTES, append, parsed
from controlplane.adapters.gateway.record_feed import SpooledFeed
from controlplane.domain.base import RevisionId, ServiceName
from controlplane.domain.door.gateway_files import records_dir, records_name
from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.rollouts.analysis import Analysis
from controlplane.domain.rollouts.rollout import RolloutState
from controlplane.domain.rollouts.rollout_options import RolloutOptions, StepSpec
from controlplane.ports.gateways import NO_TIME, News, Position
from controlplane.services.rollouts import reading
from tests.builders_serving import CHAT
from tests.integration.controller.site import Site

BUSY = RolloutOptions(
    steps=(StepSpec(weight_percent=20, min_s=3000, max_s=4000), StepSpec(weight_percent=100)), match_load=False
)
GATEWAYS = ("gw-1", "gw-2", "gw-3")
A_PIECE = PIECE_BYTES // 500  # records, of more than so many bytes each


class Files:
    """What gateways write, and the site's feed of it; `parsed` counts the records that were read of them."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.parsed = folder, 0
        monkeypatch.setattr(record_feed, "parsed", self._counting)
        records_dir(folder).mkdir(parents=True)
        self.feed = SpooledFeed(folder)

    def _counting(self, lines: bytes, *args: object, **kwargs: object) -> Iterator[GatewayRecord]:
        self.parsed += lines.count(b"\n")
        return parsed(lines, *args, **kwargs)  # type: ignore[arg-type]

    def write(self, gateway: str, at: datetime, records: Sequence[GatewayRecord]) -> None:
        append(records_dir(self.folder) / records_name(gateway, at), records)


def a_site() -> Site:
    site = Site()
    site.serving(rollout=BUSY)
    site.roll_out()
    site.passes_until(RolloutState.PROGRESSING)
    return site


def records_of(site: Site, count: int, *, began: datetime, every_s: float, seed: int = 1) -> list[GatewayRecord]:
    """Users' requests of both arms at all gateways, of two replicas each, in the order in which they finish."""
    chance, rollout = Random(seed), site.rollout
    assert rollout.stable is not None
    arms = [rollout.canary, rollout.stable, rollout.stable, rollout.stable]
    return [
        a_record(n, began + timedelta(seconds=n * every_s), chance.choice(GATEWAYS), chance.choice(arms), chance)
        for n in range(count)
    ]


def a_record(number: int, at: datetime, gateway: str, revision: RevisionId, chance: Random) -> GatewayRecord:
    return GatewayRecord(
        id=f"x{number}",
        at=at,
        gateway=gateway,
        service=CHAT,
        model="llama-8b",
        revision=revision,
        engine_id=f"{revision}-{chance.randrange(2)}",
        path="/v1/chat/completions",
        stream=True,
        status=200,
        ahead=chance.randrange(4),
        prompt_tokens=chance.choice((50, 500)),
        output_tokens=10,
        ttft_ms=chance.choice((90.0, 90.0, 90_000.0)),
        tpot_ms=10.0,
        e2e_ms=100.0,
    )


def test_no_pass_reads_more_than_its_part_however_late_in_an_hour_a_step_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, the first look read all of the hour: here twenty thousand requests older than any that is judged."""
    monkeypatch.setattr(reading, "MOST_A_LOOK", 2000)
    site, files = a_site(), Files(tmp_path, monkeypatch)
    began = site.rollout.steps[-1].started_at
    hour = began.replace(minute=0, second=0, microsecond=0)
    old = records_of(site, 20_000, began=min(hour, began - timedelta(minutes=30)), every_s=0.001)
    recent = records_of(site, 6000, began=began - timedelta(minutes=5), every_s=0.01)
    new = records_of(site, 3000, began=began, every_s=0.0001)
    for gateway in GATEWAYS:
        files.write(gateway, began, [each for each in (*old, *recent, *new) if each.gateway == gateway])
    site.restart(records=files.feed)
    read = list[int]()
    while not read or read[-1]:
        files.parsed = 0
        site.passes(1)
        read.append(files.parsed)
    assert max(read) <= 2000 + A_PIECE
    assert sum(read) == 9000
    found = analysis(site)
    assert found.canary.requests + (found.stable.requests if found.stable else 0) == 3000


def test_until_all_is_read_nothing_is_said_but_what_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST_A_LOOK", 1)
    site = a_site()
    site.records.records += records_of(site, 2500, began=site.clock(), every_s=0.0001)
    site.passes(1)
    assert (analysis(site).verdict, analysis(site).reason) == (
        "inconclusive",
        "the records of this step are still being read",
    )
    site.passes(4)
    assert "still being read" not in analysis(site).reason


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 600), max_size=4), mixes=st.lists(st.randoms(use_true_random=False), max_size=5))
def test_how_gateways_mix_and_where_a_controller_starts_anew_changes_no_verdict(
    cuts: list[int], mixes: list[Random]
) -> None:
    plain, mixed = a_site(), a_site()
    came = records_of(plain, 600, began=plain.clock(), every_s=0.001)
    mine = Mixed(came, mixes)
    plain.records.records += came
    mixed.restart(records=mine)
    for cut in sorted(cuts):
        mine.shown = cut
        mixed.passes(1)
        plain.passes(1)
        mixed.restart(records=mine)
    mine.shown = len(came)
    for site in (mixed, plain):
        site.passes(1)
    assert analysis(plain).canary.requests > 100
    assert analysis(mixed).evolve(at=plain.clock()) == analysis(plain).evolve(at=plain.clock())


class Mixed:
    """A feed that gives each gateway's records in their order, and those of several as they come."""

    def __init__(self, records: Sequence[GatewayRecord], mixes: Sequence[Random]) -> None:
        self._of = {name: [each for each in records if each.gateway == name] for name in GATEWAYS}
        self._order = {id(each): n for n, each in enumerate(records)}
        self._mixes, self.shown, self._looks = mixes, 0, 0

    def place(self, *, since: datetime, back: timedelta = NO_TIME, most_bytes: int = 0) -> Position:
        return dict.fromkeys(GATEWAYS, 0)

    def follow(
        self, service: ServiceName, *, since: datetime, position: Position, until: Position | None = None
    ) -> Iterator[News]:
        if until is not None:
            return
        reached = {name: position.get(name, 0) for name in GATEWAYS}
        new = {n: [r for r in self._of[n][reached[n] :] if self._order[id(r)] < self.shown] for n in GATEWAYS}
        chance = self._mixes[self._looks % len(self._mixes)] if self._mixes else Random(0)
        self._looks += 1
        while any(new.values()):
            name = chance.choice([each for each in GATEWAYS if new[each]])
            reached[name] += 1
            yield News([new[name].pop(0)], dict(reached), 1)


def analysis(site: Site) -> Analysis:
    found = site.rollout.steps[-1].analysis
    assert found is not None
    return found
