"""People's scores go in by the front door: a number for a request, never text."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from controlplane.adapters.gateway.scores_spool import SpooledScores
from controlplane.domain.door.feedback import Feedback
from controlplane.domain.door.gateway_files import scores_dir
from controlplane.domain.door.identity import ApiKey, Limits
from controlplane.domain.errors import Unavailable
from controlplane.ports.gateways import Scores
from tests.integration.gateway.harness import chat, gateway, revision, table
from tests.integration.gateway.upstream import upstream

PATH = "/v1/feedback"
ID = "0" * 32
SINCE = datetime(2020, 1, 1, tzinfo=UTC)


async def scores(data_dir: Path, at_least: int, **position: int) -> Scores:
    async with asyncio.timeout(240):
        while True:
            found = SpooledScores(data_dir).scores(since=SINCE, position=position)
            if len(found.scores) >= at_least:
                return found
            await asyncio.sleep(0.02)


async def test_a_score_is_kept_with_its_request_its_key_and_a_hash_of_who_gave_it(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.route(revision("stable", 100, engine), keys={"team": "secret-key"})
        key = {"Authorization": "Bearer secret-key"}
        _, _, headers = await gw.post(chat(user="ann@example.org"), **key)
        name = headers["X-Request-Id"]
        status, answer, _ = await gw.post({"request_id": name, "score": 1, "user": "ann@example.org"}, path=PATH, **key)
        assert (status, json.loads(answer)) == (202, {"object": "feedback", "request_id": name, "score": 1.0})
        found = await scores(tmp_path, 1)
        (record,) = await gw.records(1)
        (given,) = found.scores
        assert (given.request_id, given.score, given.key) == (record.id, 1.0, "team")
        assert given.scorer == record.session  # the same salted hash that splits the traffic
        assert b"ann@" not in b"".join(path.read_bytes() for path in scores_dir(tmp_path).iterdir())
        assert not SpooledScores(tmp_path).scores(since=SINCE, position=found.position).scores


REFUSED: Sequence[tuple[Any, str]] = [
    ({"request_id": ID}, "invalid_score"),
    ({"request_id": ID, "score": 1.01}, "invalid_score"),
    ({"request_id": ID, "score": True}, "invalid_score"),
    ({"request_id": ID, "score": "1"}, "invalid_score"),
    (b'{"request_id": "' + ID.encode() + b'", "score": NaN}', "invalid_score"),
    ({"request_id": "mine", "score": 1}, "invalid_request_id"),
    ({"score": 1}, "invalid_request_id"),
    ({"request_id": ID, "score": 1, "comment": "the secret of my life"}, "unknown_field"),
    (b"[1]", "invalid_json"),
    (b"x" * 5000, "request_too_large"),
]


async def test_anything_but_a_score_is_refused_and_not_repeated(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw:
        for body, code in REFUSED:
            status, answer, _ = await gw.post(body, path=PATH)
            assert status in (400, 413)
            assert json.loads(answer)["error"]["code"] == code
            assert b"secret of my life" not in answer


async def test_feedback_needs_a_key_where_requests_do(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.route(revision("stable", 100, engine), keys={"team": "secret-key"})
        status, _, _ = await gw.post({"request_id": ID, "score": 1}, path=PATH)
    assert status == 401


def test_a_broken_line_is_skipped_and_a_folder_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    good = Feedback(at=SINCE, gateway="gw-1", request_id=ID, score=0.5, scorer="")
    scores_dir(tmp_path).mkdir()
    path = scores_dir(tmp_path) / "gw-1-20260301T12.jsonl"
    path.write_text('{"at": 3}\n' + good.model_dump_json() + "\n" + good.model_dump_json()[:20])
    assert SpooledScores(tmp_path).scores(since=SINCE, position={}).scores == [good]
    path.unlink()
    path.mkdir()
    with pytest.raises(Unavailable, match="scores cannot be read"):
        SpooledScores(tmp_path).scores(since=SINCE, position={})


async def test_a_key_that_gives_too_many_scores_waits_and_its_questions_do_not(tmp_path: Path) -> None:
    async with gateway(tmp_path, feedback_per_minute=2) as gw, upstream("e1") as engine:
        await gw.route(revision("stable", 100, engine), keys={"a": "key-a", "b": "key-b"})
        key, score = {"Authorization": "Bearer key-a"}, {"request_id": ID, "score": 1}
        assert [(await gw.post(score, path=PATH, **key))[0] for _ in range(2)] == [202, 202]
        status, answer, headers = await gw.post(score, path=PATH, **key)
        assert (status, json.loads(answer)["error"]["code"]) == (429, "rate_limit_exceeded")
        assert 1 <= int(headers["Retry-After"]) <= 30
        assert (await gw.post(chat(), **key))[0] == 200
        assert (await gw.post(score, path=PATH, Authorization="Bearer key-b"))[0] == 429  # of the same tenant
        assert len((await scores(tmp_path, 2)).scores) == 2


async def test_a_key_may_score_as_often_as_it_may_ask_and_tenants_do_not_take_each_others(tmp_path: Path) -> None:
    def key(name: str, tenant: str, **limits: float) -> ApiKey:
        sha256 = hashlib.sha256(name.encode()).hexdigest()
        return ApiKey(name=name, tenant=tenant, sha256=sha256, limits=Limits(**limits))

    async with gateway(tmp_path, feedback_per_minute=3) as gw, upstream("e1") as engine:
        keys = (key("a", "one", requests_per_minute=1), key("b", "one"), key("c", "two"))
        await gw.push(table(revision("stable", 100, engine)).evolve(api_keys=keys))
        score = {"request_id": ID, "score": 0}

        async def gives(name: str) -> int:
            return (await gw.post(score, path=PATH, Authorization=f"Bearer {name}"))[0]

        assert [await gives(name) for name in "aabbbccc"] == [202, 429, 202, 202, 429, 202, 202, 202]
        assert (await gw.post(chat(), Authorization="Bearer a"))[0] == 200  # a score is no request
