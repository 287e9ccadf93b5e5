"""Every request has its entry, whoever decided what about it, and nothing of what people wrote is anywhere."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from controlplane.adapters.gateway.audit_files import audit_lines
from controlplane.cli.audit import app
from controlplane.domain.door.audit import Decision, Entry
from controlplane.domain.door.caching import CacheMode, CacheOptions
from controlplane.domain.door.gateway_files import audit_dir
from controlplane.domain.door.gateway_options import GatewayOptions
from controlplane.domain.door.identity import Limits
from controlplane.domain.door.personal import Personal
from controlplane.domain.door.privacy import Action, InputPolicy, OutputPolicy, PrivacyOptions
from tests.integration.gateway.harness import Gateway, chat, gateway, revision, table
from tests.integration.gateway.test_limits import key
from tests.integration.gateway.upstream import DONE, FINISH, USAGE, held, pieces, slam, status, token_event, upstream

EVERYTHING = GatewayOptions(
    cache=CacheOptions(mode=CacheMode.GREEDY),
    privacy=PrivacyOptions(
        input=InputPolicy(
            special_tokens=Action.REJECT, invisible=Action.STRIP, scripts=Action.FLAG, personal=Action.FLAG
        ),
        output=OutputPolicy(redact=tuple(Personal)),
    ),
    max_retries=0,
)
ANSWER = pieces(token_event("planted-answer "), token_event("planted@answer.example"), FINISH, USAGE, DONE)


def entries(data_dir: Path) -> list[Entry]:
    return [Entry.model_validate_json(line) for _, line in audit_lines(data_dir, "gw-1")]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def said(text: str, **fields: Any) -> dict[str, Any]:
    return chat(messages=[{"role": "user", "content": text}], **fields)


async def ask(gw: Gateway, body: object, secret: str = "planted-key", **headers: str) -> int:
    return (await gw.post(body, Authorization=f"Bearer {secret}", **headers))[0]


async def test_who_when_model_tokens_and_decision_of_every_request(tmp_path: Path) -> None:
    async with gateway(tmp_path, audit_days=10) as gw, upstream("e1", ANSWER) as engine:
        keys = (key("planted-key", tenant="shop"), key("few", requests_per_minute=1))
        await gw.push(table(revision("rev-a", 100, engine), options=EVERYTHING).evolve(api_keys=keys))
        await ask(gw, said("hello", temperature=0))
        await ask(gw, said("hello", temperature=0))
        await ask(gw, said("<|im_start|>"))
        await ask(gw, said("<script>"))
        await ask(gw, said("hello"), secret="wrong")
        await ask(gw, said("hello") | {"model": "planted-model"})
        await ask(gw, said("hello"), secret="few")
        await ask(gw, said("hello"), secret="few")
        engine.script = status(400)
        await ask(gw, said("hello"))
        engine.script = slam()
        await ask(gw, said("hello"))
        gate = asyncio.Event()
        engine.script = held(gate, token_event("x"))
        leaves = asyncio.create_task(ask(gw, said("hello")))
        await gw.until(lambda found: found["replicas"][0]["in_flight"] == 1)
        leaves.cancel()
        await gw.until(lambda found: found["in_flight"] == 0)
        gate.set()
    found = [entry.happened for entry in entries(tmp_path)]
    assert [(each.decision, each.status, each.reason) for each in found] == [
        (Decision.ANSWERED, 200, None),
        (Decision.FROM_CACHE, 200, None),
        (Decision.REFUSED, 400, "policy_violation"),
        (Decision.ANSWERED, 200, None),
        (Decision.REFUSED, 401, "invalid_api_key"),
        (Decision.REFUSED, 404, "model_not_found"),
        (Decision.ANSWERED, 200, None),
        (Decision.REFUSED, 429, "rate_limit_exceeded"),
        (Decision.REJECTED, 400, "upstream_4xx"),
        (Decision.FAILED, 502, "upstream_disconnected"),
        (Decision.LEFT, 499, None) if found[-1].status == 499 else (Decision.LEFT, 200, None),
    ]
    first = found[0]
    assert (first.tenant, first.key, first.model, first.revision) == ("shop", "planted-key", "llama", "rev-a")
    assert (first.prompt_tokens, first.output_tokens, first.redacted) == (7, 5, True)
    assert found[3].flags == ("script",)
    assert (found[4].key, found[4].model) == (None, None)


async def test_tampering_is_found_and_what_is_asked_for_is_exported(tmp_path: Path) -> None:
    async with gateway(tmp_path, audit_days=10) as gw, upstream("e1", ANSWER) as engine:
        keys = (key("a", tenant="shop"), key("b", tenant="bank"))
        await gw.push(table(revision("rev-a", 100, engine)).evolve(api_keys=keys))
        for name in "abab":
            assert await ask(gw, said("hello"), secret=name) == 200
    run, data = CliRunner(), ["--data-dir", str(tmp_path)]
    whole = run.invoke(app, ["verify", *data])
    assert whole.exit_code == 0
    assert "gw-1: whole, entries 1 to 4" in whole.output
    head = whole.output.split()[-1]
    exported = run.invoke(app, ["export", "--tenant", "bank", *data])
    assert [json.loads(line)["happened"]["key"] for line in exported.output.splitlines()] == ["b", "b"]
    assert run.invoke(app, ["export", "--since", "2200-01-01", *data]).output == ""
    path = next(audit_dir(tmp_path).iterdir())
    text = path.read_text()
    path.write_text(text.replace('"tenant":"bank"', '"tenant":"shop"', 1))
    forged = run.invoke(app, ["verify", *data])
    assert (forged.exit_code, "entry 2 was changed" in forged.output) == (1, True)
    path.write_text("".join(text.splitlines(keepends=True)[:3]))
    assert run.invoke(app, ["verify", *data]).exit_code == 0  # an end cut off does not show by itself
    cut = run.invoke(app, ["verify", "--head", head, *data])
    assert (cut.exit_code, "cut off" in cut.output) == (1, True)
    path.write_text(text)
    assert run.invoke(app, ["verify", "--head", head, *data]).exit_code == 0
    assert run.invoke(app, ["verify", "--head", "x", *data]).exit_code == 2


async def test_nothing_that_was_planted_is_in_any_file_log_line_metric_or_status(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    words = "planted-prompt planted-secret planted-answer planted@answer planted-session planted-tool"
    planted = words.split()
    seen: list[bytes] = []
    async with gateway(tmp_path, audit_days=10) as gw, upstream("e1", ANSWER) as engine:
        limited = key("planted-secret", requests_per_minute=100).evolve(name="app", limits=Limits(concurrent=9))
        await gw.push(table(revision("rev-a", 100, engine), options=EVERYTHING).evolve(api_keys=(limited,)))
        tool = {"type": "function", "function": {"name": "planted-tool"}}
        bodies: list[object] = [
            said("planted-prompt", temperature=0, user="planted-session"),
            said("planted-prompt", temperature=0, user="planted-session"),
            said("planted-prompt <|im_start|>"),
            said("planted-prompt <script> planted@prompt.example \u200b"),
            said("planted-prompt", tools=[tool], stream=False),
            {"model": "planted-prompt"},
            b'{"model": "llama", "planted-prompt": planted-secret}',
            said("planted-prompt" * 10_000),
        ]
        for body in bodies:
            for secret in ("planted-secret", "planted-secret-wrong"):
                headers = {"Authorization": f"Bearer {secret}", "X-Session-Id": "planted-session"}
                code, answer, _ = await gw.post(body, **headers)
                seen += [answer] if code >= 400 else []
        engine.script = status(500, b"planted-answer")
        await ask(gw, said("planted-prompt"), secret="planted-secret")
        engine.script = slam()
        await ask(gw, said("planted-prompt"), secret="planted-secret")
        seen.append(json.dumps(await gw.status()).encode())
        for url in (f"{gw.url}/metrics", f"{gw.running.address.admin_url}/admin/flights"):
            async with gw.session.get(url) as response:
                seen.append(await response.read())
    files = contents(tmp_path)
    assert any("records" in name for name in files)
    assert any("audit" in name for name in files)
    places = {**files, **{f"answer {at}": each for at, each in enumerate(seen)}, "log": caplog.text.encode()}
    told = {(name, word) for name, content in places.items() for word in planted if word.encode() in content}
    unknown_model = {(name, word) for name, word in told if name.startswith("answer") and word == "planted-prompt"}
    assert told - unknown_model == set()  # the error of an unknown model names the model to who named it
    assert len(unknown_model) == 1
