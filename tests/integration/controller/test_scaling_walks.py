"""Whatever is lost, set, edited or started anew in the middle of it: no replica goes that may be needed, and it heals.

Walks through load and harm, each by its seed: gateways or records that cannot be read in the middle of a scale-out, a
store that is away and a new controller after it, a clock set by an hour, a service edited during a rollout.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.errors import Conflict, FleetuneError, Unavailable
from controlplane.domain.operations.autoscale_options import AutoscaleOptions
from controlplane.domain.rollouts.rollout import ROLLOUT_FINAL
from controlplane.services.fleet.serving import register_service
from controlplane.services.rollouts.manage import abort_rollout
from tests.builders_serving import CHAT
from tests.fakes.store import FakeStore
from tests.integration.controller.site import Site
from tests.integration.controller.test_autoscaling import ENOUGH, IN_AFTER_S, WINDOW_S

GPUS, CAPACITY_RPS, HOUR_S = 8, 2.0, 3600.0
NEEDED = {1: 1, 3: 2, 5: 3}
"""Requests a second → replicas that 15 % of headroom ask for."""


class AwayStore(FakeStore):
    """A store that can be away: whatever is asked of it is Unavailable."""

    is_away = False

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if not name.startswith("_") and callable(found) and super().__getattribute__("is_away"):
            raise Unavailable("the store does not answer")
        return found


@dataclass
class Walk:
    """A service that scales, and what was done to it."""

    seed: int
    steps: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chance, self.store, self.load = random.Random(self.seed), AwayStore(), 1
        self.site = Site(gpus=GPUS, store=self.store)
        self.options = AutoscaleOptions(
            enabled=True, capacity_rps=CAPACITY_RPS, window_s=WINDOW_S, scale_in_after_s=IN_AFTER_S
        )
        self.site.serving(autoscale=self.options)
        self.go_on(WINDOW_S + 15)

    def go_on(self, seconds: int) -> None:
        """Let seconds go by; no pass may take a replica away that it must not."""
        for _ in range(seconds):
            before, keeps = self.replicas, self._keeps()
            self.site.clock.go_on(1)
            with suppress(Unavailable):
                self.site.controller.run_pass()
            assert self.replicas >= (before if keeps else 1), f"{keeps}: {self.steps}"
            assert self.replicas <= max(before, self.options.max_replicas or GPUS), self.steps
            if not self.store.is_away and "gw-1" in self.site.router.tables:
                self.site.traffic(self.load)

    def _keeps(self) -> str:
        """Return why no replica may go now."""
        if self.store.is_away or self.site.records.broken or self.site.router.down:
            return "nobody knows the load"
        return "a rollout is under way" if self.rolls_out else ""

    @property
    def replicas(self) -> int:
        away, self.store.is_away = self.store.is_away, False
        found = self.site.service.stable_replicas
        self.store.is_away = away
        return found

    @property
    def rolls_out(self) -> bool:
        away, self.store.is_away = self.store.is_away, False
        found = any(each.value.state not in ROLLOUT_FINAL for each in self.store.list_rollouts(CHAT))
        self.store.is_away = away
        return found

    def blind_gateways(self) -> None:
        self.site.router.down = {"gw-1"}

    def blind_records(self) -> None:
        self.site.records.broken = True

    def store_away(self) -> None:
        self.store.is_away = True

    def clock_back(self) -> None:
        self.site.clock.step(-HOUR_S)
        self.site.restart()

    def clock_forward(self) -> None:
        self.site.clock.step(HOUR_S)
        self.site.restart()

    def new_controller(self) -> None:
        self.site.restart()

    def edit(self) -> None:
        """Change the ceiling; during a rollout that is refused or taken, and never in between."""
        self.ceiling(self.chance.choice([None, 2, 4]))

    def ceiling(self, replicas: int | None) -> None:
        self.options = self.options.evolve(max_replicas=replicas)
        spec = self.site.service.spec.evolve(autoscale=self.options)
        with suppress(Conflict):
            register_service(self.store, spec, actor="ops", now=self.site.clock())
        self.options = self.site.service.spec.autoscale

    def roll_out(self) -> None:
        config = EngineConfig(flags={"max-num-seqs": self.chance.choice([32, 64, 128])})
        with suppress(FleetuneError):
            self.site.roll_out(config, replicas=self.chance.choice([1, 2]))

    def end_rollout(self) -> None:
        """Be the person who looks at a rollout that waits for one."""
        if self.rolls_out:
            rollout = self.site.rollout
            abort_rollout(self.store, rollout.rollout_id, actor="ops", reason="enough", now=self.site.clock())
        self.go_on(30)
        assert not self.rolls_out, (self.steps, self.site.rollout.reason)

    def heal(self) -> None:
        self.site.router.down, self.site.records.broken = set(), False
        if self.store.is_away:
            self.store.is_away = False
            if self.chance.random() < 0.5:
                self.site.restart()

    def harm(self) -> None:
        """Do the next thing to it."""
        done: Callable[[], None] = self.chance.choice(
            [
                self.blind_gateways,
                self.blind_records,
                self.store_away,
                self.clock_back,
                self.clock_forward,
                self.new_controller,
                self.edit,
                self.roll_out,
            ]
        )
        self.load = self.chance.choice(list(NEEDED))
        self.steps.append(f"{done.__name__} at {self.load}/s")
        done()


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_in_the_middle_no_needed_replica_goes_and_it_follows_the_load_again(seed: int) -> None:
    walk = Walk(seed)
    for _ in range(8):
        walk.go_on(walk.chance.choice([3, 10, 40]))
        walk.harm()
        walk.go_on(walk.chance.choice([3, 10, 100]))
        walk.heal()
    walk.load = 5
    walk.end_rollout()
    walk.ceiling(None)
    walk.go_on(2 * WINDOW_S)
    assert walk.replicas >= NEEDED[5], walk.steps
    walk.load = 1
    walk.go_on(ENOUGH)
    assert walk.replicas == NEEDED[1], walk.steps
    assert len(walk.site.engines()) == 1, walk.steps


@pytest.mark.parametrize(
    "harm", [Walk.blind_gateways, Walk.blind_records, Walk.store_away], ids=lambda each: each.__name__
)
def test_what_was_to_start_when_the_numbers_were_lost_starts_all_the_same(harm: Callable[[Walk], None]) -> None:
    walk = Walk(0)
    walk.load = 5
    while walk.replicas < NEEDED[5]:
        walk.go_on(1)
    harm(walk)
    walk.go_on(30)
    assert walk.replicas == NEEDED[5]
    walk.heal()
    walk.go_on(5)
    assert len(walk.site.engines()) == NEEDED[5]
