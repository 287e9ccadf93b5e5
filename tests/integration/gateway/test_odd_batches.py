"""What no client of OpenAI's writes is refused in files and batches, and is no fault of ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.gateway.harness import Gateway, gateway
from tests.integration.gateway.test_batches import CHAT, answering, lines, routed
from tests.integration.gateway.upstream import upstream

KEY = {"Authorization": "Bearer a"}


async def uploaded(gw: Gateway, filename: bytes = b"in.jsonl") -> tuple[int, dict[str, Any]]:
    parts = [
        b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n',
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="%b"\r\n\r\n' % filename,
        lines(1) + b"\r\n--x--\r\n",
    ]
    headers = {**KEY, "Content-Type": "multipart/form-data; boundary=x"}
    async with gw.session.post(f"{gw.url}/v1/files", data=b"".join(parts), headers=headers) as response:
        return response.status, await response.json()


@pytest.mark.parametrize(
    "odd",
    [
        {"endpoint": [CHAT]},
        {"endpoint": {}},
        {"completion_window": ["24h"]},
        {"metadata": {"a": "\ud800"}},
        {"metadata": {"\udfff": "a"}},
        {"input_file_id": "../../../etc/passwd"},
        {"input_file_id": "file-" + "0" * 10_000},
        {"input_file_id": "file-\ud800"},
    ],
)
async def test_a_batch_that_cannot_be_is_a_400(tmp_path: Path, odd: dict[str, Any]) -> None:
    async with gateway(tmp_path, batch_days=1) as gw, upstream("e1", answering()) as engine:
        await gw.push(routed(engine, "a"))
        file_id = (await uploaded(gw))[1]["id"]
        asked = {"endpoint": CHAT, "completion_window": "24h", "input_file_id": file_id, **odd}
        status, body, _ = await gw.post(asked, path="/v1/batches", **KEY)
        listed, said, _ = await get(gw, "/v1/batches")
    assert (status, json.loads(body)["error"]["param"]) == (400, next(iter(odd)))
    assert (listed, json.loads(said)["data"]) == (200, [])


@pytest.mark.parametrize("filename", [b"\xff\xfe.jsonl", b"../../x.jsonl", b"a" * 7000, b"\xed\xa0\x80"])
async def test_a_file_is_kept_by_an_id_of_ours_whatever_it_is_called(tmp_path: Path, filename: bytes) -> None:
    async with gateway(tmp_path, batch_days=1) as gw, upstream("e1", answering()) as engine:
        await gw.push(routed(engine, "a"))
        status, shown = await uploaded(gw, filename)
        listed, said, _ = await get(gw, "/v1/files")
    assert status == 200, shown
    assert (listed, [each["id"] for each in json.loads(said)["data"]]) == (200, [shown["id"]])
    assert sum("x.jsonl" in path for path in everything_in(tmp_path)) == 0


@pytest.mark.parametrize("limit", ["9" * 5000, "0", "-1", "٣", "x"])
async def test_a_page_of_any_length_is_a_page(tmp_path: Path, limit: str) -> None:
    async with gateway(tmp_path, batch_days=1) as gw, upstream("e1", answering()) as engine:
        await gw.push(routed(engine, "a"))
        await uploaded(gw)
        status, said, _ = await get(gw, f"/v1/files?limit={limit}")
    assert (status, len(json.loads(said)["data"])) == (200, 1)


def everything_in(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*")]


async def get(gw: Gateway, path: str) -> tuple[int, bytes, Any]:
    async with gw.session.get(gw.url + path, headers=KEY) as response:
        return response.status, await response.read(), response.headers
