"""What the command line says of a recommendation agrees with its own sentence."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.cli.recommendation import RECOMMENDATION


def _shown(title: str, found: dict[str, Any]) -> Any:
    (column,) = [each for each in RECOMMENDATION.details if each.title == title]
    return column.read(found)


@pytest.mark.parametrize(("probability", "said"), [(0.9997, "99%"), (1.0, "99%"), (0.964, "96%"), (0.0, "1%")])
def test_nothing_measured_is_called_certain(probability: float, said: str) -> None:
    found = {"improvement": True, "chances": {"holds": probability, "cheaper": probability, "missed_saving": 0.5}}

    assert _shown("holds the target with", found) == said
    assert _shown("cheaper with", found) == said


def test_a_baseline_that_took_no_load_has_no_cost_to_compare_with() -> None:
    ratios = {"cost_ratio": 0.5, "cost_ratio_low": 0.4, "cost_ratio_high": 0.6, "confirmed_baseline": None}
    for state, ratio, interval in (("feasible", 0.5, [0.4, 0.6]), ("infeasible", None, None)):
        found = {"evidence": {"baseline": {"state": state, "levels": []}, **ratios}}
        assert _shown("cost ratio", found) == ratio
        assert _shown("95 % interval", found) == interval


def test_what_could_have_been_missed_stands_only_beside_an_answer_without_a_saving() -> None:
    chances = {"holds": 0.99, "cheaper": 0.99, "missed_saving": 0.5, "missed_chance": 0.0}
    likely, none = chances | {"missed_chance": 0.49}, chances | {"missed_saving": 0.0}

    assert _shown("could have missed", {"improvement": True, "chances": chances}) is None
    assert _shown("could have missed", {"improvement": False, "chances": chances}) == "at most 50%"
    assert _shown("could have missed", {"improvement": False, "chances": likely}) == "49% likely, at most 50%"
    assert _shown("could have missed", {"improvement": False, "chances": none}) == "nothing likelier than 5 %"
    assert _shown("could have missed", {"improvement": False, "chances": None}) is None
