"""What engines say of themselves: a guard where the canary strains and stable, at its load, would not."""

from __future__ import annotations

import pytest

from controlplane.domain.base import EngineId
from controlplane.domain.rollouts.pressure import Loads, Pressure, PressureLog, Readings, strain
from controlplane.domain.rollouts.rollout_options import RolloutOptions
from tests.builders_serving import NOW, after

ALIKE = Loads(3.0, 3.0)
OPTIONS = RolloutOptions()


def replica(
    *, preempted_rps: float = 0.0, kv: float = 0.2, waiting: float = 0, seconds: int = 6, every_s: float = 1.0
) -> Readings:
    return [
        Pressure(after(each * every_s), 100 + preempted_rps * each * every_s, kv, waiting)
        for each in range(int(seconds / every_s) + 1)
    ]


def said(*mine: Readings, stable: Readings | None = None, loads: Loads = ALIKE, lapse: float = 1.0) -> str | None:
    theirs = [replica() if stable is None else stable]
    return strain(mine, theirs, loads, OPTIONS, now=after(6), time_lapse=lapse)


def test_a_storm_of_preemptions_is_the_canary_s_where_stable_has_room() -> None:
    found = said(replica(), replica(preempted_rps=2.5, kv=0.9))
    assert found is not None
    assert "a canary replica preempts 2.5 requests/s, where one of stable would preempt 0.0 with 20 %" in found


def test_requests_that_wait_for_a_full_cache_are_too() -> None:
    found = said(replica(kv=0.97, waiting=4))
    assert found is not None
    assert "wait for the full KV cache of a canary replica" in found


@pytest.mark.parametrize(
    "calm",
    [
        {"kv": 0.97, "waiting": 0},  # full of what it may keep, and nobody waits
        {"kv": 0.5, "waiting": 40},  # a queue, and not for the cache
        {"preempted_rps": 0.2},
    ],
)
def test_neither_a_full_cache_nor_a_queue_alone_says_anything(calm: dict[str, float]) -> None:
    assert said(replica(**calm)) is None  # type: ignore[arg-type]  # numbers, by their names


def test_what_stable_shows_too_is_the_load_s_doing() -> None:
    storm = replica(preempted_rps=2.5, kv=0.97, waiting=9)
    assert said(storm, stable=storm) is None
    assert said(replica(preempted_rps=2.5), stable=replica(preempted_rps=1.0)) is None


def test_so_is_what_stable_would_show_at_the_canary_s_load() -> None:
    storm = replica(preempted_rps=2.5, kv=0.97, waiting=9)
    assert said(storm, loads=Loads(9.0, 3.0)) is not None
    assert said(storm, loads=Loads(15.0, 3.0)) is None


def test_nothing_is_said_beside_a_stable_that_serves_nothing_or_does_not_tell() -> None:
    storm = replica(preempted_rps=2.5, kv=0.97, waiting=9)
    mute = [each._replace(preemptions=None, kv_usage=None) for each in replica()]
    assert said(storm, loads=Loads(3.0, 0.0)) is None
    assert said(storm, stable=mute) is None


def test_a_moment_is_no_strain_and_old_readings_say_nothing() -> None:
    burst = [*replica()[:4], *replica(kv=0.97, waiting=9)[4:]]
    assert said(burst) is None
    assert said(replica(kv=0.97, waiting=9)[-2:]) is None
    assert strain([replica(kv=1, waiting=9)], [replica()], ALIKE, OPTIONS, now=after(60), time_lapse=1) is None


def test_rates_are_in_engine_time_and_a_counter_begun_anew_says_nothing() -> None:
    assert said(replica(preempted_rps=5.0), lapse=10.0) is None
    assert said(replica(preempted_rps=-5.0)) is None


def test_a_log_keeps_what_is_new_and_forgets_who_is_gone() -> None:
    log, one, other = PressureLog(), EngineId("a"), EngineId("b")
    for told in ({one: Pressure(NOW), other: Pressure(NOW)}, {one: Pressure(NOW)}, {one: Pressure(after(1))}):
        log.add(told)
    assert [len(each) for each in log.of([one, other])] == [2]
