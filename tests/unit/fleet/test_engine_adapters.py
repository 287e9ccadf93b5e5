"""The loader against the emulator's own routes: vLLM's words, both ways."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from controlplane.adapters.engine_adapters import EngineAdapters
from controlplane.domain.base import EngineId
from controlplane.domain.engines.engine import EngineConfig, EngineKind
from controlplane.domain.engines.fleet import Engine, EngineSpec, EngineState
from controlplane.domain.errors import InvalidInput, Unavailable
from tests.builders_serving import NOW
from tests.unit.emulator.served import served

SWITCH = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}


def an_engine(url: str) -> Engine:
    spec = EngineSpec(
        engine_id=EngineId("chat-1"),
        owner="rollout/chat/rev-1",
        kind=EngineKind.EMULATOR,
        model="llama-8b",
        served_name="llama-8b",
        config=EngineConfig(),
        gpus=1,
    )
    return Engine(spec=spec, state=EngineState.READY, url=url, started_at=NOW)


def a_folder(path: Path, rank: int = 8) -> str:
    path.mkdir()
    config = {"r": rank, "lora_alpha": 16, "target_modules": ["q_proj"], "base_model_name_or_path": "llama-8b"}
    (path / "adapter_config.json").write_text(json.dumps(config))
    (path / "adapter_model.safetensors").write_bytes(b"")
    return str(path)


async def asked(url: str, act: Callable[[EngineAdapters, Engine], object]) -> object:
    with closing(EngineAdapters()) as loader:
        return await asyncio.to_thread(act, loader, an_engine(url))


async def test_adapters_are_loaded_listed_and_unloaded_however_often_one_asks(tmp_path: Path) -> None:
    path = a_folder(tmp_path / "support")
    async with served("--enable-lora", **SWITCH) as client:
        url = str(client.make_url("")).rstrip("/")
        for _ in range(2):
            await asked(url, lambda loader, engine: loader.load(engine, "support--1", path))
        assert await asked(url, lambda loader, engine: loader.loaded(engine)) == {"support--1": path}
        for _ in range(2):
            await asked(url, lambda loader, engine: loader.unload(engine, "support--1"))
        assert await asked(url, lambda loader, engine: loader.loaded(engine)) == {}


async def test_what_engines_refuse_is_said_in_their_words(tmp_path: Path) -> None:
    large = a_folder(tmp_path / "large", rank=64)
    async with served("--enable-lora", **SWITCH) as client:
        url = str(client.make_url("")).rstrip("/")
        for path, said in ((large, "LoRA rank 64 is greater than max_lora_rank 16"), ("/nowhere", "No adapter found")):
            with pytest.raises(InvalidInput, match=said):
                await asked(url, lambda loader, engine, path=path: loader.load(engine, "x--1", path))  # type: ignore[misc]


async def test_an_engine_without_the_routes_is_named_with_what_it_lacks() -> None:
    async with served() as client:
        url = str(client.make_url("")).rstrip("/")
        with pytest.raises(InvalidInput, match="must be started with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"):
            await asked(url, lambda loader, engine: loader.load(engine, "x--1", "/x"))


@pytest.mark.parametrize(
    "answer", [httpx.Response(500), httpx.Response(200, text="<html>"), httpx.Response(200, json=[])]
)
def test_an_engine_that_lists_nothing_sensible_does_not_answer(answer: httpx.Response) -> None:
    answer.request = httpx.Request("GET", "http://engine")
    loader = EngineAdapters(httpx.MockTransport(lambda _: answer))
    with pytest.raises(Unavailable, match="does not list its models"):
        loader.loaded(an_engine("http://engine"))
