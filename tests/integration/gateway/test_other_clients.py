"""Clients that are too heavy for every fresh clone: LangChain, and LiteLLM as a client.

They run where `FLEETUNE_CLIENTS_PYTHON` names a Python that has them (`pip install langchain-openai litellm`), each in
a process of its own, as users' programs do.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.integration.gateway.harness import MODEL
from tests.integration.gateway.test_clients import answer, completion, serving
from tests.integration.gateway.upstream import DONE, pieces, token_event

PYTHON = os.environ.get("FLEETUNE_CLIENTS_PYTHON")
PROGRAMS = Path(__file__).parent / "clients"
CITY = {"name": "Köln", "people": 1_087_000}


async def engine(request: web.Request) -> web.StreamResponse:
    """Answer as the question wants it: in pieces, with a tool, in JSON of the given shape, in a word."""
    asked = await request.json()
    if asked.get("stream"):
        return await pieces(token_event("Hal"), token_event("lo"), DONE)(request)
    if asked.get("tools"):
        function = {"name": "weather", "arguments": json.dumps({"city": "Köln"})}
        call = {"id": "t1", "type": "function", "function": function}
        return await answer(completion({"content": None, "tool_calls": [call]}, "tool_calls"))(request)
    if asked.get("response_format", {}).get("type") == "json_schema":
        return await answer(completion({"content": json.dumps(CITY)}))(request)
    return await answer(completion({"content": "Hallo"}))(request)


async def run(program: str, url: str) -> dict[str, Any]:
    """Run a user's program and return what it printed; it must end well."""
    assert PYTHON is not None
    command = (PYTHON, str(PROGRAMS / program), url, "s3cret", MODEL)
    child = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, complaint = await child.communicate()
    assert child.returncode == 0, complaint.decode()[-2000:]
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.mark.skipif(PYTHON is None, reason="FLEETUNE_CLIENTS_PYTHON names no Python with langchain-openai and litellm")
@pytest.mark.parametrize("program", ["of_langchain.py", "of_litellm.py"])
async def test_it_gets_what_the_engine_said(tmp_path: Path, program: str) -> None:
    async with serving(tmp_path, engine) as (gw, asked):
        found = await run(program, gw.url)
        records = await gw.records(len(asked.seen))
    assert found == {
        "text": "Hallo",
        "tokens": 5,
        "streamed": ["Hal", "lo"],
        "asynchronous": "Hallo",
        "tool": {"city": "Köln"},
        "shaped": CITY,
    }
    assert {(record.error, record.key) for record in records} == {(None, "team")}
