"""The table of the judged scenarios: which of the three targets each of them reached."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.search.judged import MINE, judged, table


def a_contestant(
    name: str, *, starts: float | None = 2, seconds: float | None = 500.0, gaps: tuple[float | None, ...] = (0.5, 0.0)
) -> dict[str, Any]:
    return {
        "name": name,
        "runs": 6,
        "reached": 6,
        "starts_to_5_percent": {"median": starts},
        "gpu_seconds_to_5_percent": {"median": seconds},
        "median_gap_after": dict(zip(("1", "2"), gaps, strict=True)),
    }


def a_scenario(mine: dict[str, Any], *, tpe_seconds: float | None = 2000.0) -> dict[str, Any]:
    chance = a_contestant("random", gaps=(0.5, 0.2))
    return {"name": "one", "contestants": [mine, chance, a_contestant("optuna_tpe", seconds=tpe_seconds)]}


def test_a_scenario_that_reached_all_three_missed_nothing() -> None:
    found = judged(a_scenario(a_contestant(MINE)))
    assert found.missed == ()
    assert found.ratio == pytest.approx(4.0)
    assert list(table([found]))[-1] == "1 of 1 scenarios missed nothing"


@pytest.mark.parametrize(
    ("mine", "missed"),
    [
        (a_contestant(MINE, starts=5), ("starts",)),
        (a_contestant(MINE, gaps=(0.5, 0.21)), ("random",)),
        (a_contestant(MINE, seconds=700.0), ("GPU-seconds",)),
        (a_contestant(MINE, starts=None, seconds=None), ("starts", "GPU-seconds")),
        (a_contestant(MINE, gaps=(None, 0.0)), ("random",)),
    ],
)
def test_each_target_is_missed_by_itself(mine: dict[str, Any], missed: tuple[str, ...]) -> None:
    assert judged(a_scenario(mine)).missed == missed


def test_the_worst_budget_is_where_random_was_ahead_by_most() -> None:
    found = judged(a_scenario(a_contestant(MINE, gaps=(0.6, 0.5))))
    assert (found.worse, found.worst_at) == ((1, 2), 2)
    assert found.worst == pytest.approx(0.3)


def test_neither_having_found_anything_is_no_difference() -> None:
    scenario = a_scenario(a_contestant(MINE, gaps=(None, 0.0)))
    scenario["contestants"][1]["median_gap_after"]["1"] = None
    assert judged(scenario).worse == ()


def test_a_tpe_that_never_got_there_took_more_than_any_ratio() -> None:
    assert "GPU-seconds" not in judged(a_scenario(a_contestant(MINE), tpe_seconds=None)).missed
    neither = judged(a_scenario(a_contestant(MINE, seconds=None), tpe_seconds=None))
    assert "GPU-seconds" in neither.missed
