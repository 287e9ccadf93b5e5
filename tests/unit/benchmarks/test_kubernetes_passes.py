"""A pass over replicas that did not change costs no request, however many there are."""

from __future__ import annotations

import pytest

from benchmarks.kubernetes_controller import measure as measure_controller
from benchmarks.kubernetes_passes import measure


@pytest.mark.parametrize("revisions", [1, 4])
def test_passes_over_what_did_not_change_ask_the_server_nothing(revisions: int) -> None:
    found = measure(revisions=revisions, replicas=2, passes=3)
    assert (found.engines, found.requests) == (2 * revisions, 0)


def test_a_controllers_passes_over_what_did_not_change_ask_the_server_nothing() -> None:
    found = measure_controller(services=3, replicas=2, passes=3)
    assert (found.engines, found.requests, list(found.problems)) == (6, 0, [])
