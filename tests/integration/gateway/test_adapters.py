"""Adapters are models to clients: named at the gateway, split by share, sent to replicas that have them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from controlplane.domain.door.gateway_options import GatewayOptions
from controlplane.domain.door.privacy import Action, InputPolicy, PrivacyOptions
from controlplane.domain.door.routing import AdapterPart, AdapterRoute, RoutingTable
from tests.integration.gateway.harness import chat, gateway, revision, table
from tests.integration.gateway.upstream import DONE, FINISH, Script, Upstream, pieces, status, upstream

USERS = 120
"""Drawn by a salt of each installation: of so many the larger share has more in all but four of a million."""


def routed(with_it: Upstream, without: Upstream, *shares: int, version: int = 1) -> RoutingTable:
    plain = table(revision("stable", 100, with_it, without), version=version)
    parts = tuple(
        AdapterPart(loaded_as=f"support--{number}", share_percent=share, engines=(with_it.name,))
        for number, share in enumerate(shares, start=1)
    )
    service = plain.services[0].evolve(adapters=(AdapterRoute(name="support", parts=parts),))
    return plain.evolve(services=(service,))


async def test_requests_for_an_adapter_go_where_it_is_loaded_under_the_name_of_their_version(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as first, upstream("e2") as second:
        await gw.push(routed(first, second, 70, 30))
        for number in range(2 * USERS):
            body = chat(model="support", user=f"user-{number % USERS}", temperature=0.5)
            assert (await gw.post(body))[0] == 200
        assert not second.bodies
        sent = [json.loads(body) for body in first.bodies]
        asked = Counter(each["model"] for each in sent)
        assert set(asked) == {"support--1", "support--2"}
        assert asked["support--1"] > asked["support--2"]
        assert {each["temperature"] for each in sent} == {0.5}
        by_user = {(each["user"], each["model"]) for each in sent}
        assert len(by_user) == USERS  # who asks again gets the same version
        records = await gw.records(2 * USERS)
        assert {(each.model, each.adapter) for each in records} == {("support", name) for name in asked}


async def test_who_answers_as_the_version_that_was_asked_is_no_other_model(tmp_path: Path) -> None:
    def answers_as(name: str) -> Script:
        return pieces(b'data: {"model":"%s","choices":[{"delta":{"content":"a"}}]}\n\n' % name.encode(), FINISH, DONE)

    async with (
        gateway(tmp_path) as gw,
        upstream("e1", answers_as("support--1")) as right,
        upstream("e2", answers_as("llama")) as wrong,
    ):
        for version, engine in enumerate((right, wrong), start=1):
            await gw.push(routed(engine, engine, 100, version=version))
            assert (await gw.post(chat(model="support")))[0] == 200
        found = {each.engine_id: each.other_model for each in await gw.records(2)}
        assert found == {"e1": False, "e2": True}


@pytest.mark.parametrize("gap", [b"", b" "])
async def test_an_answer_names_the_adapter_as_it_was_asked_for_and_its_text_is_left_alone(
    tmp_path: Path, gap: bytes
) -> None:
    quoted = json.dumps('{"model":"support--1"}').encode()
    event = b'"model":%s"support--1","choices":[{"delta":{"content":%s}}]}\n\n' % (gap, quoted)
    cut = (b'data: {"id":"x",' + event[:14], event[14:])
    async with gateway(tmp_path) as gw, upstream("e1", pieces(*cut, FINISH, DONE)) as engine:
        await gw.push(routed(engine, engine, 100))
        streamed = (await gw.post(chat(model="support", stream=True)))[1]
        assert streamed.count(b'"model":%s"support",' % gap) == 1
        assert quoted in streamed
        body = b'{"model":%s"support--1","choices":[{"message":{"content":%s}}]}' % (gap, quoted)
        engine.script = status(200, body)
        answered = (await gw.post(chat(model="support", stream=False)))[1]
        assert answered == body.replace(b'"support--1"', b'"support"', 1)
        assert {record.other_model for record in await gw.records(2)} == {False}


async def test_adapters_are_listed_by_the_names_clients_use(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as first, upstream("e2") as second:
        first.cards = second.cards = [{"id": "llama"}, {"id": "support--1", "parent": "llama"}, {"id": "own"}]
        await gw.push(routed(first, second, 100))
        async with gw.session.get(gw.url + "/v1/models") as answer:
            cards = (await answer.json())["data"]
        assert [(card["id"], card["parent"]) for card in cards] == [
            ("llama", None),
            ("support", "llama"),
            ("own", "llama"),
        ]


async def test_an_adapter_that_no_replica_has_any_more_is_503_and_a_form_for_one_400(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as first, upstream("e2") as second:
        await gw.push(routed(first, second, 100))
        form = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nsupport\r\n--x--\r\n'
        kind = {"Content-Type": "multipart/form-data; boundary=x"}
        status, answer, _ = await gw.post(form, path="/v1/audio/transcriptions", **kind)
        assert (status, json.loads(answer)["error"]["code"]) == (400, "adapter_not_here")
        gone = routed(first, second, 100, version=2).services[0].adapters[0]
        lost = gone.evolve(parts=(gone.parts[0].evolve(engines=("e9",)),))
        plain = routed(first, second, 100, version=2)
        await gw.push(plain.evolve(services=(plain.services[0].evolve(adapters=(lost,)),)))
        assert (await gw.post(chat(model="support")))[0] == 503
        assert (await gw.post(chat()))[0] == 200


async def test_a_policy_that_writes_the_body_anew_still_asks_for_the_version(tmp_path: Path) -> None:
    policy = PrivacyOptions(input=InputPolicy(invisible=Action.STRIP))
    async with gateway(tmp_path) as gw, upstream("e1") as first, upstream("e2") as second:
        plain = routed(first, second, 100)
        service = plain.services[0].evolve(options=GatewayOptions(privacy=policy))
        await gw.push(plain.evolve(services=(service,)))
        hidden = [{"role": "user", "content": "one\u200btwo"}]
        assert (await gw.post({"model": "support", "messages": hidden}))[0] == 200
        (sent,) = map(json.loads, first.bodies)
        assert (sent["model"], sent["messages"][0]["content"]) == ("support--1", "onetwo")
