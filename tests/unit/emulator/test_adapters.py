"""LoRA adapters are loaded, listed, asked for and refused as vLLM does, in its words."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from controlplane.domain.engines.engine_failures import diagnose
from controlplane.domain.engines.kinds.vllm import VLLM
from controlplane.domain.engines.start_failure import StartFailure
from controlplane.emulator.boot import StartRefused
from controlplane.emulator.flags import parse_command_line
from controlplane.emulator.tokens import block_hashes
from tests.unit.emulator.served import MODEL, Client, served

_RUNTIME = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}


def adapter(folder: Path, *, weights: str | None = "adapter_model.safetensors", **config: Any) -> str:
    """Make an adapter's folder in PEFT's form; returns its path."""
    folder.mkdir()
    described = {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj"], **config}
    (folder / "adapter_config.json").write_text(json.dumps({k: v for k, v in described.items() if v is not None}))
    if weights is not None:
        (folder / weights).touch()
    return str(folder)


def test_lora_modules_are_read_in_both_forms() -> None:
    words = ["m", "--lora-modules", "a=/x/y", '{"name": "b", "path": "/z", "base_model_name": "m"}']
    first, second = parse_command_line(words, visible_devices=None).adapters
    assert (first.name, first.path) == ("a", "/x/y")
    assert (second.name, second.path, second.base_model_name) == ("b", "/z", "m")


@pytest.mark.parametrize(
    ("word", "said"), [("a", "Invalid JSON format"), ('{"name": "a"}', "Invalid fields"), ("[1, 2]", "Invalid fields")]
)
def test_lora_modules_that_say_nothing_are_refused(word: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse_command_line(["m", "--lora-modules", word], visible_devices=None)
    assert f"{said} for --lora-modules: {word}" in capsys.readouterr().err


async def test_an_adapter_of_the_start_is_a_model_of_its_own(tmp_path: Path) -> None:
    path = adapter(tmp_path / "sql")
    async with served("--enable-lora", f"--lora-modules=sql={path}") as client:
        base, card = (await (await client.get("/v1/models")).json())["data"]
        assert (base["id"], base["parent"], base["max_model_len"]) == (MODEL, None, 8192)
        assert (card["id"], card["parent"], card["root"], card["max_model_len"]) == ("sql", MODEL, path, None)
        answer = await client.post("/v1/completions", json={"model": "sql", "prompt": "a b", "max_tokens": 2})
        assert (await answer.json())["model"] == "sql"
        assert (await client.post("/v1/load_lora_adapter", json={})).status == 404  # not without the variable


async def test_adapters_come_and_go_while_the_engine_runs(tmp_path: Path) -> None:
    path = adapter(tmp_path / "sql")
    ask = {"model": "sql", "prompt": "a b", "max_tokens": 2}
    async with served("--enable-lora", **_RUNTIME) as client:
        unknown = await client.post("/v1/completions", json=ask)
        assert (unknown.status, (await unknown.json())["error"]["message"]) == (
            404,
            "The model `sql` does not exist.",
        )
        load = {"lora_name": "sql", "lora_path": path}
        loaded = await client.post("/v1/load_lora_adapter", json=load)
        assert (loaded.status, await loaded.text()) == (200, "Success: LoRA adapter 'sql' added successfully.")
        again = await client.post("/v1/load_lora_adapter", json=load)
        assert (again.status, (await again.json())["error"]["type"]) == (400, "InvalidUserInput")
        assert (await client.post("/v1/load_lora_adapter", json={**load, "load_inplace": True})).status == 200
        assert (await client.post("/v1/completions", json=ask)).status == 200
        removed = await client.post("/v1/unload_lora_adapter", json={"lora_name": "sql"})
        assert (removed.status, await removed.text()) == (200, "Success: LoRA adapter 'sql' removed successfully.")
        assert (await client.post("/v1/unload_lora_adapter", json={"lora_name": "sql"})).status == 404
        assert (await client.post("/v1/completions", json=ask)).status == 404


@pytest.mark.parametrize(
    ("config", "weights", "status", "said"),
    [
        ({"r": 32}, "adapter_model.bin", 500, "LoRA rank 32 is greater than max_lora_rank 16."),
        ({"use_dora": True}, "adapter_model.bin", 500, "vLLM does not yet support DoRA."),
        ({"lora_alpha": None}, "adapter_model.bin", 500, "Missing required configuration fields: {'lora_alpha'}"),
        ({}, None, 500, "doesn't contain tensors"),
    ],
)
async def test_an_adapter_vllm_cannot_load_is_refused(
    config: dict[str, Any], weights: str | None, status: int, said: str, tmp_path: Path
) -> None:
    load = {"lora_name": "a", "lora_path": adapter(tmp_path / "a", weights=weights, **config)}
    async with served("--enable-lora", **_RUNTIME) as client:
        answer = await client.post("/v1/load_lora_adapter", json=load)
        assert answer.status == status
        assert said in (await answer.json())["error"]["message"]
        nowhere = await client.post("/v1/load_lora_adapter", json={"lora_name": "b", "lora_path": "/no/where"})
        assert (nowhere.status, (await nowhere.json())["error"]["message"]) == (
            404,
            "Loading lora b failed: No adapter found for /no/where",
        )
        assert len((await (await client.get("/v1/models")).json())["data"]) == 1


@pytest.mark.parametrize("flags", [["--enable-lora", "--lora-modules=a=/no/where"], ["--lora-modules=a=/no/where"]])
async def test_an_adapter_that_keeps_the_engine_from_starting_is_a_matter_of_the_configuration(
    flags: list[str],
) -> None:
    with pytest.raises(StartRefused) as refused:
        async with served(*flags):
            raise AssertionError("it started")
    assert diagnose(str(refused.value), VLLM.log, exit_code=1, was_ready=False).failure is StartFailure.REFUSED_FLAG


async def test_fewer_adapters_on_the_host_than_on_the_gpu_are_refused() -> None:
    with pytest.raises(StartRefused, match=r"max_cpu_loras \(1\) must be >= max_loras \(4\)"):
        async with served("--enable-lora", "--max-loras=4", "--max-cpu-loras=1"):
            raise AssertionError("it started")


def test_an_adapter_shares_no_cached_prefix_with_its_model() -> None:
    tokens = list(range(32))
    assert block_hashes(tokens, 16, salt="a") == block_hashes(tokens, 16, salt="a")
    assert not set(block_hashes(tokens, 16, salt="a")) & set(block_hashes(tokens, 16, salt="b"))


@pytest.mark.parametrize(("loras", "running"), [(1, 2), (2, 3)])
async def test_a_batch_holds_as_many_adapters_as_max_loras_says(loras: int, running: int, tmp_path: Path) -> None:
    """One of the base model and one of each adapter; whose adapter has no place waits."""
    words = ["--lora-modules", *(f"{name}={adapter(tmp_path / name)}" for name in ("sql", "law"))]
    slow = "--emulator-time-lapse=1"  # 4,000 tokens take half a minute
    async with served("--enable-lora", f"--max-loras={loras}", slow, *words) as client, asyncio.timeout(240):
        ask = {"prompt": "a b", "max_tokens": 4000, "stream": True, "ignore_eos": True}
        names = (MODEL, "sql", "law")
        asked = [asyncio.create_task(client.post("/v1/completions", json={**ask, "model": name})) for name in names]
        while await _gauges(client) != (running, 3 - running):  # as long as they are on their way
            pass
        assert [await _gauges(client) for _ in range(5)] == [(running, 3 - running)] * 5
        for each in asked:
            each.cancel()


async def _gauges(client: Client) -> tuple[int, int]:
    page = await (await client.get("/metrics")).text()
    return _gauge(page, "running"), _gauge(page, "waiting")


def _gauge(page: str, name: str) -> int:
    line = next(line for line in page.splitlines() if line.startswith(f"vllm:num_requests_{name}{{"))
    return int(float(line.rpartition(" ")[2]))
