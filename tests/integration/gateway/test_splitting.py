"""Traffic is split by weight, sessions stick, the least loaded replica gets the next request."""

from __future__ import annotations

import asyncio
import itertools
from functools import partial
from pathlib import Path
from typing import Any

from tests.integration.gateway.harness import Gateway, chat, gateway, revision, table
from tests.integration.gateway.upstream import held, status, token_event, upstream


async def test_weights_split_requests_without_a_session(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as stable, upstream("e2") as canary:
        await gw.route(revision("stable", 80, stable), revision("canary", 20, canary))
        answered = await gw.split(300)
    assert 35 <= answered["canary"] <= 90  # binomial(300, 0.2), seeded: far beyond 4 sigma on both sides


async def test_a_session_stays_with_its_revision(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as stable, upstream("e2") as canary:
        await gw.route(revision("stable", 50, stable), revision("canary", 50, canary))
        for session in ("a", "b", "c", "d"):
            assert len(await gw.split(5, **{"X-Session-Id": session})) == 1


async def test_the_user_field_names_a_session_too(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as stable, upstream("e2") as canary:
        await gw.route(revision("stable", 50, stable), revision("canary", 50, canary))
        first = {user: (await gw.post(chat(user=user)))[2]["X-Fleetune-Revision"] for user in "abcdefgh"}
        again = {user: (await gw.post(chat(user=user)))[2]["X-Fleetune-Revision"] for user in "abcdefgh"}
    assert first == again
    assert set(first.values()) == {"stable", "canary"}


async def test_a_growing_canary_only_draws_sessions_from_stable(tmp_path: Path) -> None:
    sessions = [f"session-{i}" for i in range(60)]
    on_canary: list[set[str]] = []
    async with gateway(tmp_path) as gw, upstream("e1") as stable, upstream("e2") as canary:
        for version, weight in enumerate((5, 20, 60, 100), start=1):
            revisions = (revision("stable", 100 - weight, stable), revision("canary", weight, canary))
            await gw.route(*revisions, version=version)
            on_canary.append({s for s in sessions if await _revision_of(gw, s) == "canary"})
    assert all(earlier <= later for earlier, later in itertools.pairwise(on_canary))
    assert on_canary[-1] == set(sessions)


async def test_a_revision_without_replicas_leaves_its_share_to_the_others(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as stable:
        await gw.route(revision("stable", 5, stable), revision("canary", 95))
        assert await gw.split(20) == {"stable": 20}


async def test_a_revision_of_weight_zero_gets_nothing_even_when_the_others_fail(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1", status(503)) as stable, upstream("e2") as aborted:
        await gw.route(revision("stable", 100, stable), revision("canary", 0, aborted))
        code, _, _ = await gw.post(chat())
    assert code == 503
    assert aborted.seen == []


async def test_the_least_loaded_replica_gets_the_next_request(tmp_path: Path) -> None:
    gate = asyncio.Event()
    script = held(gate, token_event("one"))
    async with gateway(tmp_path) as gw, upstream("e1", script) as one, upstream("e2", script) as two:
        await gw.route(revision("rev-a", 100, one, two))
        asked = []
        for number in range(6):
            asked.append(asyncio.create_task(gw.post(chat())))
            await gw.until(partial(_has_in_flight, number + 1))
        gate.set()
        await asyncio.gather(*asked)
    assert (len(one.seen), len(two.seen)) == (3, 3)


async def test_a_removed_replica_finishes_its_streams(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with gateway(tmp_path) as gw, upstream("old", held(gate, token_event("one"))) as old, upstream("new") as new:
        await gw.route(revision("rev-a", 100, old))
        streaming = asyncio.create_task(gw.post(chat()))
        await gw.until(lambda status: status["replicas"][0]["in_flight"] == 1)
        await gw.route(revision("rev-b", 100, new), version=2)
        assert await gw.split(3) == {"rev-b": 3}
        assert {r["engine_id"]: r["in_flight"] for r in (await gw.status())["replicas"]} == {"new": 0, "old": 1}
        gate.set()
        _, body, headers = await streaming
        await gw.until(lambda status: [r["engine_id"] for r in status["replicas"]] == ["new"])
    assert headers["X-Fleetune-Revision"] == "rev-a"
    assert body.endswith(b"data: [DONE]\n\n")


async def test_an_older_table_is_refused_and_the_same_one_is_fine(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine), version=5)
        await gw.route(revision("rev-a", 100, engine), version=5)
        older, why = await gw.push(table(revision("rev-b", 100, engine), version=4))
        other, _ = await gw.push(table(revision("rev-b", 100, engine), version=5))
        assert (older, other) == (409, 409)
        assert "5" in why["error"]
        assert await gw.split(1) == {"rev-a": 1}


def _has_in_flight(count: int, status: dict[str, Any]) -> bool:
    return bool(sum(replica["in_flight"] for replica in status["replicas"]) == count)


async def _revision_of(gw: Gateway, session: str) -> str:
    _, _, headers = await gw.post(chat(), **{"X-Session-Id": session})
    return headers["X-Fleetune-Revision"]
