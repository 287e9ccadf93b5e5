"""Calibrating over HTTP: what is refused, what is measured. The engine here is a server of canned answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.errors import Conflict, InvalidInput, Unavailable
from tests.unit.tuner.twin.builders import a_profile
from tests.unit.tuner.twin.test_validation_and_fit import a_file
from tuner.twin.calibrate import Target, check_replaces, fit_measured, look, measure
from tuner.twin.gpus import find_gpu
from tuner.twin.measurements import MeasuredEngine, read_file, write_file
from tuner.twin.probes import Probe, ProbeRequest, Timed, common_decode, mixed_load, probe_suite, run_probe
from tuner.twin.shapes import load_shape
from tuner.twin.transfer import profile_for

IDLE = 'vllm:num_requests_running{engine="0"} 0.0\nvllm:num_requests_waiting{engine="0"} 0.0\n'
BUSY = 'vllm:num_requests_running{engine="0"} 3.0\nvllm:num_requests_waiting{engine="0"} 1.0\n'
CACHE = 'vllm:cache_config_info{block_size="16",num_gpu_blocks="1000"} 1.0\n'


def an_engine(*, metrics: str = IDLE + CACHE) -> httpx.AsyncClient:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/metrics":
            return httpx.Response(200, text=metrics)
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": "served"}]})
        return httpx.Response(200, json={"version": "0.26.0"})

    return httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://engine")


async def a_stream(request: web.Request) -> web.StreamResponse:
    wanted = (await request.json())["max_tokens"]
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(wanted):
        await response.write(b'data: {"choices": [{"te')
        await response.write(b'xt": "w"}]}\n\n')
    await response.write(b'data: {"choices": [], "usage": {}}\n\ndata: [DONE]\n\n')
    return response


async def a_cut_stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b'data: {"choices": [{"text": "w"}]}\n\n')
    assert request.transport is not None
    request.transport.abort()
    return response


def saying(text: str, status: int = 200) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=text)

    return answer


async def probed(
    probe: Probe, answer: Callable[[web.Request], Awaitable[web.StreamResponse]] = a_stream
) -> tuple[Timed, ...]:
    app = web.Application()
    app.router.add_post("/v1/completions", answer)
    async with TestServer(app) as server:
        return await run_probe(str(server.make_url("/")), "served", probe, seed=1)


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
    timed = await probed(Probe("burst", tuple(ProbeRequest(0.0, 20, 5) for _ in range(3))))
    assert [len(one.token_s) for one in timed] == [5, 5, 5]
    assert all(0 <= one.ttft_s <= one.e2e_s for one in timed)
    assert all(list(one.token_s) == sorted(one.token_s) for one in timed)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (saying("out of memory", 500), "HTTP 500: out of memory"),
        (saying("data: [DONE]\n\n"), "without a token"),
        (saying("data: {not json\n\n"), "JSONDecodeError"),
        (a_cut_stream, "broken"),
    ],
)
async def test_a_probe_that_fails_midway_says_which(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]], why: str
) -> None:
    with pytest.raises(Unavailable, match=f"stopped at probe 128/48 x8.*{why}"):
        await probed(Probe("probe 128/48 x8", (ProbeRequest(0.0, 9, 2),)), answer)


def test_nobody_there_is_said_in_one_message() -> None:
    target = Target("http://127.0.0.1:9", "H200", load_shape("llama-8b"), EngineConfig(flags={"max-model-len": 8192}))
    with pytest.raises(Unavailable, match=r"no engine answers at http://127\.0\.0\.1:9"):
        measure(target, "x")


def test_an_unknown_gpu_is_refused_before_anything_is_asked() -> None:
    with pytest.raises(InvalidInput, match="unknown GPU"):
        measure(Target("http://127.0.0.1:9", "RTX 9", load_shape("llama-8b"), EngineConfig()), "x")


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


def kept(folder: Path) -> MeasuredEngine:
    return read_file(a_file(folder))


def test_what_was_kept_is_fitted_again_without_an_engine(tmp_path: Path) -> None:
    engine = kept(tmp_path)
    write_file(engine, tmp_path / "kept.json")
    again = read_file(tmp_path / "kept.json")
    assert again.config == engine.config
    assert again.shape == engine.shape
    assert fit_measured(again, generations=2) == fit_measured(engine, generations=2)


def test_a_known_engine_keeps_its_parameters_where_the_probes_are_silent(tmp_path: Path) -> None:
    known = profile_for(load_shape("llama-8b"), find_gpu("H200"), 16, 1)
    found = fit_measured(kept(tmp_path), generations=10)
    assert found.parameters.throttle == pytest.approx(known.parameters.throttle, rel=0.3)


def test_measurements_without_a_mixed_load_are_refused(tmp_path: Path) -> None:
    engine = kept(tmp_path)
    probes = tuple(cell for cell in engine.cells if cell.is_probe)
    with pytest.raises(InvalidInput, match="no mixed load"):
        fit_measured(engine._replace(cells=probes))


def test_a_profile_of_another_engine_version_is_not_overwritten() -> None:
    check_replaces(None, a_profile())
    check_replaces(a_profile(), a_profile())
    with pytest.raises(InvalidInput, match="--replace"):
        check_replaces(a_profile().evolve(engine_version="0.25.0"), a_profile())
