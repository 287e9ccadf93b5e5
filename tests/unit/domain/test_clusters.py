"""A session is one cluster of misses, wherever its requests come."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.rollouts.bursts import Runs
from controlplane.domain.rollouts.clusters import LATER_GROWS, MOST_OF_A_SESSION, Clusters
from controlplane.domain.rollouts.hits import Hits

Seen = tuple[str, str | None, bool]  # gateway, session, whether it missed
SEEN = st.tuples(st.sampled_from(["g", "h"]), st.sampled_from([None, "a", "b", "c"]), st.booleans())


def counted(requests: Sequence[Seen]) -> Clusters:
    clusters = Clusters()
    for gateway, session, hit in requests:
        clusters.see(gateway, session, hit)
    return clusters


def side_by_side(requests: Sequence[Seen]) -> Hits:
    """Count the same, put together by hand: each gateway's sessions one after the other, as they began."""
    blocks: dict[tuple[str, object], list[bool]] = {}
    for number, (gateway, session, hit) in enumerate(requests):
        block = blocks.setdefault((gateway, number if session is None else session), [])
        if len(block) < MOST_OF_A_SESSION:
            block.append(hit)
    hits = Hits()
    for (gateway, _), block in blocks.items():
        for hit in block:
            hits.see(gateway, hit)
    return hits


@given(st.lists(SEEN, max_size=120))
def test_requests_of_a_session_stand_side_by_side_however_they_came(requests: list[Seen]) -> None:
    found, expected = counted(requests), side_by_side(requests)
    assert (found.n, found.hits, found.runs()) == (expected.n, expected.hits, expected.runs())


@given(st.lists(SEEN, max_size=60))
def test_in_which_order_gateways_are_read_changes_nothing(requests: list[Seen]) -> None:
    apart = sorted(requests, key=lambda each: each[0])
    found, again = counted(requests), counted(apart)
    assert (found.n, found.hits, found.runs()) == (again.n, again.hits, again.runs())


def test_a_heavy_user_whose_requests_all_miss_is_one_run_among_all_the_others() -> None:
    others: list[Seen] = [("g", f"s{number}", False) for number in range(100)]
    heavy: list[Seen] = [("g", "heavy", True)] * 100
    found = counted([each for pair in zip(others, heavy, strict=True) for each in pair])
    assert (found.n, found.hits) == (110, MOST_OF_A_SESSION)
    assert found.runs() == Runs(runs=1, open=0)


def test_of_later_requests_ten_reach_to_the_62nd() -> None:
    late = Clusters(LATER_GROWS)
    counted_ones = [number for number in range(1, 200) if late.see("g", "s", hit=False)]
    assert counted_ones == [1, 2, 3, 5, 8, 12, 18, 27, 41, 62]
    assert (late.n, late.hits) == (MOST_OF_A_SESSION, 0)
