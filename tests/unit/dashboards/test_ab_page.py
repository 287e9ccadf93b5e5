"""What the page of an A/B test says in short: who differs by how much, and what is undecided."""

from __future__ import annotations

from controlplane.domain.ab_tests.ab_test import AbTest
from dashboards.views.ab_tests import in_short
from tests.builders_ab import a_judged_test
from tests.builders_serving import NOW


def test_what_is_certain_stands_with_its_bounds_and_what_is_not_is_named() -> None:
    assert in_short(a_judged_test(NOW)) == [
        "llama@2 against stable: TTFT -9.0 %, certainly -12.1 to -5.8 %",
        "Undecided: length, feedback",
    ]


def test_arms_that_cannot_be_compared_and_a_test_without_a_look_say_nothing() -> None:
    test: AbTest = a_judged_test(NOW)
    assert test.analysis is not None
    assert in_short(test.evolve(analysis=test.analysis.evolve(problem="users are not split by the shares"))) == []
    assert in_short(test.evolve(analysis=None)) == []
