"""A controller that stood still while another took the lead acts on nothing that it may not write down."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from controlplane.adapters.store_sql.fence import LEADER
from controlplane.adapters.store_sql.store import SqlStore, open_store
from controlplane.domain.errors import Deposed
from controlplane.domain.rollouts.rollout import RolloutState
from controlplane.services.fleet.serving import register_service
from tests.builders_serving import CHAT, a_spec, some_options
from tests.integration.controller.site import Site

PASSES = 40  # more than a rollout takes


class LedSite(Site):
    """A site whose controller writes with the number of its lead, on a real store."""

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite:///{folder}/store.db"
        self.led: list[SqlStore] = []
        super().__init__(store=open_store(self.url))
        self.take_over()

    def take_over(self) -> None:
        """Let another controller lead; the one before it is not told."""
        self.led.append(SqlStore(self.url, leader=self.store.next_number(LEADER)))
        self.restart(store=self.led[-1])

    def pass_deposed(self) -> None:
        """Let another take the lead while this controller stood still; then it does its pass nevertheless."""
        self.store.next_number(LEADER)
        with suppress(Deposed):
            self.controller.run_pass()

    @property
    def saved(self) -> object:
        return [row.value for row in self.store.list_rollouts(CHAT)], self.store.list_events(limit=1000)

    @property
    def names(self) -> set[str]:
        return {engine.spec.engine_id for engine in self.fleet.list()}

    def close(self) -> None:
        for store in (*self.led, self.store):
            assert isinstance(store, SqlStore)
            store.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[LedSite]:
    made = LedSite(tmp_path)
    yield made
    made.close()


def test_whenever_in_a_rollout_another_takes_over_nothing_is_started_routed_or_saved_by_the_former(
    site: LedSite,
) -> None:
    site.serving(rollout=some_options(20, 100, miss_ratio_margin=0.3, error_ratio_margin=0.3))
    site.roll_out()
    for _ in range(PASSES):
        saved, tables, names = site.saved, dict(site.router.tables), site.names
        site.clock.go_on(1)
        site.pass_deposed()
        assert (site.saved, dict(site.router.tables)) == (saved, tables)
        assert site.names <= names  # what is over may be forgotten
        site.take_over()
        site.passes(1, requests=80)
    assert site.rollout.state is RolloutState.PROMOTED
    assert site.weights == {site.rollout.canary: 100}


def test_a_service_that_was_just_registered_gets_no_engine_of_it(site: LedSite) -> None:
    register_service(site.store, a_spec(), actor="cli", now=site.clock())
    site.pass_deposed()
    assert site.fleet.list() == []
    assert site.router.applied == []
