"""The drills of collapsing canaries say what they are asked for, and the published file is of all of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.collapsing_canaries import DRILLS, MOST_MISSED, STEPS, summary

PUBLISHED = Path(__file__).parents[3] / "docs" / "results" / "collapsing-canaries.json"


def a_run(**changes: Any) -> dict[str, Any]:
    return {"state": "aborted", "at_percent": 5, "after_s": 60.0, "users_missed": 0, "met": True} | changes


def test_a_summary_hides_neither_the_worst_run_nor_one_that_was_promoted() -> None:
    worst = a_run(users_missed=14, at_percent=20, after_s=300.0, met=False)
    found = summary([a_run(), worst, a_run(state="promoted", at_percent=100, met=False)])
    assert (found["aborted"], found["of"], found["met"]) == (2, 3, 1)
    assert (found["most_users_missed"], found["longest_s"]) == (14, 300.0)
    assert found["at_percent"] == [5, 20, 100]


@pytest.mark.parametrize("drill", DRILLS)
def test_every_drill_is_published_and_judged_by_its_target(drill: str) -> None:
    published = json.loads(PUBLISHED.read_text())
    assert published["target_users_missed"] == MOST_MISSED
    for steps in STEPS:
        for run in published[drill][steps]["runs"]:
            kept = run["state"] == "aborted" and run["at_percent"] < 100 and run["users_missed"] <= MOST_MISSED
            assert run["met"] is kept
