"""A configuration's gain over itself is none: what the benchmark of repeats compares, and what it published."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.coverage_of_repeats import lives, pairs, report

RESULTS = Path(__file__).parents[3] / "docs" / "results"
STUDIES = sorted(RESULTS.glob("h200-*/study-*.json"))


def test_only_lives_of_one_configuration_under_different_arrivals_are_compared() -> None:
    found = list(pairs(lives(STUDIES)))
    assert found
    for pair in found:
        one, other = pair.first.trial, pair.second.trial
        assert one.config == other.config
        assert one.levels[0].report.seed != other.levels[0].report.seed


def test_the_published_figures_are_what_the_command_says_of_the_published_studies() -> None:
    published = json.loads((RESULTS / "coverage-repeats.json").read_text())
    again = report(list(pairs(lives(STUDIES))))
    assert again["holds"] == published["holds"]
    for now, then in zip(again["pairs"], published["pairs"], strict=True):
        assert now["stated"] == pytest.approx(then["stated"], rel=0.01)
