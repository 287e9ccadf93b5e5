"""Calibrating over HTTP: what is refused, what is measured. The engine here is a tiny server of canned answers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from controlplane.domain.engine import EngineConfig
from controlplane.domain.errors import Conflict, InvalidInput, Unavailable
from tests.unit.twin.builders import a_profile
from tuner.twin.calibrate import Target, calibrate, check_replaces, look
from tuner.twin.probes import Probe, ProbeRequest, Timed, common_decode, mixed_load, probe_suite, run_probe
from tuner.twin.shapes import load_shape

IDLE = 'vllm:num_requests_running{engine="0"} 0.0\nvllm:num_requests_waiting{engine="0"} 0.0\n'
BUSY = 'vllm:num_requests_running{engine="0"} 3.0\nvllm:num_requests_waiting{engine="0"} 1.0\n'
CACHE = 'vllm:cache_config_info{block_size="16",num_gpu_blocks="1000"} 1.0\n'
Answer = Callable[[httpx.Request], httpx.Response]


def an_engine(*, metrics: str = IDLE + CACHE, completion: Answer | None = None) -> httpx.AsyncClient:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/metrics":
            return httpx.Response(200, text=metrics)
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": "served"}]})
        if request.url.path == "/version":
            return httpx.Response(200, json={"version": "0.26.0"})
        return (completion or a_stream)(request)

    return httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://engine")


def a_stream(request: httpx.Request) -> httpx.Response:
    wanted = json.loads(request.content)["max_tokens"]

    async def events() -> AsyncIterator[bytes]:
        for _ in range(wanted):
            yield b'data: {"choices": [{"text": "w"}]}\n\n'
        yield b'data: {"choices": [], "usage": {}}\n\ndata: [DONE]\n\n'

    return httpx.Response(200, content=events())


async def test_an_idle_engine_tells_its_name_version_and_cache() -> None:
    async with an_engine() as client:
        assert await look(client, None) == ("served", "0.26.0", 16000.0)
        assert (await look(client, "mine")).model == "mine"


async def test_a_busy_engine_is_not_calibrated() -> None:
    async with an_engine(metrics=BUSY) as client:
        with pytest.raises(Conflict, match="not idle: 3 running, 1 waiting"):
            await look(client, None)


async def test_a_server_without_vllm_metrics_is_refused() -> None:
    async with an_engine(metrics="up 1\n") as client:
        with pytest.raises(Unavailable, match="no vllm: metrics"):
            await look(client, None)


async def test_an_engine_of_unknown_cache_still_calibrates() -> None:
    async with an_engine(metrics=IDLE) as client:
        assert (await look(client, None)).kv_tokens is None


async def test_every_token_is_timed() -> None:
    probe = Probe("burst", tuple(ProbeRequest(0.0, 20, 5) for _ in range(3)))
    async with an_engine() as client:
        timed = await run_probe(client, "served", probe, seed=1)
    assert [len(one.token_s) for one in timed] == [5, 5, 5]
    assert all(0 <= one.ttft_s <= one.e2e_s for one in timed)


@pytest.mark.parametrize("failing", ["status", "empty", "broken"])
async def test_a_probe_that_fails_midway_says_which(failing: str) -> None:
    answers = {
        "status": httpx.Response(500, text="out of memory"),
        "empty": httpx.Response(200, text="data: [DONE]\n\n"),
        "broken": httpx.Response(200, text="data: {not json\n\n"),
    }
    async with an_engine(completion=lambda request: answers[failing]) as client:
        with pytest.raises(Unavailable, match="stopped at probe 128/48 x8"):
            await run_probe(client, "m", Probe("probe 128/48 x8", (ProbeRequest(0.0, 9, 2),)), seed=1)


def test_nobody_there_is_said_in_one_message() -> None:
    target = Target("http://127.0.0.1:9", "H200", load_shape("llama-8b"), EngineConfig(flags={"max-model-len": 8192}))
    with pytest.raises(Unavailable, match=r"no engine answers at http://127\.0\.0\.1:9"):
        calibrate(target, "x")


def test_an_unknown_gpu_is_refused_before_anything_is_asked() -> None:
    with pytest.raises(InvalidInput, match="unknown GPU"):
        calibrate(Target("http://127.0.0.1:9", "RTX 9", load_shape("llama-8b"), EngineConfig()), "x")


def test_probes_stay_within_what_the_engine_takes() -> None:
    suite = probe_suite(longest=2000, max_num_seqs=16)
    assert max(request.prompt_tokens + request.output_tokens for probe in suite for request in probe.requests) <= 2000
    assert max(len(probe.requests) for probe in suite) <= 16
    assert not suite[0].counted


def test_the_mixed_load_keeps_its_rate_and_seed() -> None:
    load = mixed_load(10.0, duration_s=20.0, longest=8192, seed=4)
    assert len(load.requests) == 200
    assert load.requests[-1].at_s == pytest.approx(20, rel=0.3)
    assert load == mixed_load(10.0, duration_s=20.0, longest=8192, seed=4)


def test_only_the_time_in_which_all_decode_counts_as_decoding() -> None:
    request = ProbeRequest(0.0, 128, 21)
    early = Timed(request, 0.0, tuple(0.1 + 0.01 * step for step in range(21)))
    late = Timed(request, 0.0, tuple(0.15 + 0.01 * step for step in range(21)))
    found = common_decode([early, late])
    assert found is not None
    seconds, steps = found
    assert seconds / steps == pytest.approx(0.01, rel=0.05)
    assert common_decode([early, Timed(request, 0.0, (0.4,))]) is None


def test_a_profile_of_another_engine_version_is_not_overwritten() -> None:
    check_replaces(None, a_profile())
    check_replaces(a_profile(), a_profile())
    with pytest.raises(InvalidInput, match="--replace"):
        check_replaces(a_profile().evolve(engine_version="0.25.0"), a_profile())
