"""A pass over replicas that did not change costs no request, however many there are."""

from __future__ import annotations

import pytest

from benchmarks.kubernetes_passes import measure


@pytest.mark.parametrize("revisions", [1, 4])
def test_passes_over_what_did_not_change_ask_the_server_nothing(revisions: int) -> None:
    found = measure(revisions=revisions, replicas=2, passes=3)
    assert (found.engines, found.requests) == (2 * revisions, 0)
