"""The crowd of streams that last: what is told of its memory, and that slow streams lose nothing."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.crowd import memory_at
from benchmarks.doors.contestants import ALL_STAGES, Place, ours
from benchmarks.doors.load import Crowd, client, crowd
from benchmarks.gateway import stub


def test_memory_is_told_as_of_the_first_look_from_then_on() -> None:
    looks = [(0.0, 50.0), (58.0, 55.0), (61.0, 60.0), (299.5, 70.0), (330.0, 71.0)]
    seen = Crowd(2, 10, 0, {}, 0.25, looks, mib_per_minute=0.0, token_p99_ms=1.0)
    assert memory_at(seen) == {0: 50.0, 60: 60.0, 300: 70.0}


async def test_streams_of_less_than_a_token_a_second_come_to_their_end(tmp_path: Path) -> None:
    async with stub() as stub_url, client() as session:
        place = Place(min(os.sched_getaffinity(0)), stub_url, tmp_path)
        async with ours(place, "ours", ALL_STAGES, keyed=True, audited=True) as door:
            found = await crowd(session, door, streams=3, tokens=2, per_s=0.8)
    assert (found.tokens, found.lost, found.refused) == (6, 0, {})
    assert found.rss_mib
