"""An emulator's metrics agree with what its client saw."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection
from typing import TypeVar

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from controlplane.adapters.fleet_processes.probes import emulator_lag
from controlplane.adapters.metrics_scrape.pressures import EnginePressures
from controlplane.domain.base import EngineId
from controlplane.host.clock import utc_now
from tests.integration.emulators import MODEL, emulator
from tests.unit.observability.test_scraping import an_engine

T = TypeVar("T")

VLLM_NAMES = {
    "vllm:num_requests_running": "gauge",
    "vllm:num_requests_waiting": "gauge",
    "vllm:kv_cache_usage_perc": "gauge",
    "vllm:cache_config_info": "gauge",
    "vllm:num_preemptions": "counter",
    "vllm:prompt_tokens": "counter",
    "vllm:generation_tokens": "counter",
    "vllm:prefix_cache_queries": "counter",
    "vllm:prefix_cache_hits": "counter",
    "vllm:request_success": "counter",
    "vllm:iteration_tokens_total": "histogram",
    "vllm:request_prompt_tokens": "histogram",
    "vllm:request_generation_tokens": "histogram",
    "vllm:time_to_first_token_seconds": "histogram",
    "vllm:inter_token_latency_seconds": "histogram",
    "vllm:request_time_per_output_token_seconds": "histogram",
    "vllm:e2e_request_latency_seconds": "histogram",
}


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with emulator() as running, httpx.Client(base_url=running.url, timeout=240, trust_env=False, verify=False) as made:
        yield made


def samples(client: httpx.Client) -> dict[str, float]:
    """Every sample, by name; those split by a reason under `name/reason`."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            reason = sample.labels.get("finished_reason")
            found[sample.name if reason is None else f"{sample.name}/{reason}"] = sample.value
    return found


def wait(done: Callable[[], bool]) -> None:
    first(lambda: done() or None)


def first(found: Callable[[], T | None]) -> T:
    """Ask until there is an answer: what reads the page does not wait long for an engine that is late itself."""
    give_up_s = time.monotonic() + 240
    while (answer := found()) is None:
        assert time.monotonic() < give_up_s, "never came about"
        time.sleep(0.01)
    return answer


def test_names_and_types_are_those_of_vllm(client: httpx.Client) -> None:
    families = {family.name: family for family in text_string_to_metric_families(client.get("/metrics").text)}
    assert {name: families[name].type for name in VLLM_NAMES} == VLLM_NAMES
    running = families["vllm:num_requests_running"].samples[0]
    assert running.labels == {"model_name": MODEL, "engine": "0"}


def test_counts_and_sums_agree_with_what_the_client_saw(client: httpx.Client) -> None:
    first_s, whole_s = 0.0, 0.0
    for length in (5, 9, 20):
        start_s = time.monotonic()
        body = {"prompt": [1] * 100, "max_tokens": length, "stream": True}
        with client.stream("POST", "/v1/completions", json=body) as answer:
            rows = answer.iter_lines()
            next(rows)
            first_s += time.monotonic() - start_s
            for _ in rows:
                pass
        whole_s += time.monotonic() - start_s
    seen = samples(client)
    assert seen["vllm:prompt_tokens_total"] == 300
    assert seen["vllm:generation_tokens_total"] == 34
    assert seen["vllm:request_success_total/length"] == 3
    assert seen["vllm:time_to_first_token_seconds_count"] == 3
    assert seen["vllm:inter_token_latency_seconds_count"] == 31
    assert seen["vllm:e2e_request_latency_seconds_count"] == 3
    assert 0 < seen["vllm:time_to_first_token_seconds_sum"] <= first_s
    assert seen["vllm:time_to_first_token_seconds_sum"] < seen["vllm:e2e_request_latency_seconds_sum"] <= whole_s


def test_a_repeated_prompt_is_found_in_the_prefix_cache(client: httpx.Client) -> None:
    body = {"prompt": list(range(64)), "max_tokens": 1}
    for _ in range(2):
        client.post("/v1/completions", json=body).raise_for_status()
    seen = samples(client)
    assert (seen["vllm:prefix_cache_queries_total"], seen["vllm:prefix_cache_hits_total"]) == (128, 48)


def test_a_client_that_hangs_up_frees_its_place(client: httpx.Client) -> None:
    body = {"prompt": [1], "max_tokens": 8000, "stream": True}
    with client.stream("POST", "/v1/completions", json=body) as answer:
        rows = answer.iter_lines()  # kept: a generator that is thrown away closes the connection
        next(rows)
        wait(lambda: samples(client)["vllm:num_requests_running"] == 1)
        assert samples(client)["vllm:kv_cache_usage_perc"] > 0
    wait(lambda: samples(client)["vllm:num_requests_running"] == 0)
    seen = samples(client)
    assert (seen["vllm:request_success_total/abort"], seen["vllm:kv_cache_usage_perc"]) == (1, 0)


def test_a_whole_answer_whose_client_hangs_up_is_taken_back_too(client: httpx.Client) -> None:
    body = json.dumps({"prompt": [1], "max_tokens": 8000})
    with closing(HTTPConnection(client.base_url.netloc.decode())) as connection:
        connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
        wait(lambda: samples(client)["vllm:num_requests_running"] == 1)
    wait(lambda: samples(client)["vllm:request_success_total/abort"] == 1)


def test_lag_of_the_emulator_itself_is_measured(client: httpx.Client) -> None:
    client.post("/v1/completions", json={"prompt": [1], "max_tokens": 50}).raise_for_status()
    assert samples(client)["fleetune:emulator_lag_seconds_count"] == 50


def test_seconds_are_emulated_seconds_when_time_is_lapsed() -> None:
    with (
        emulator("--emulator-time-lapse=5") as running,
        httpx.Client(base_url=running.url, timeout=240, trust_env=False, verify=False) as client,
    ):
        start_s = time.monotonic()
        client.post("/v1/completions", json={"prompt": [1], "max_tokens": 100}).raise_for_status()
        wall_s = time.monotonic() - start_s
        emulated_s = samples(client)["vllm:e2e_request_latency_seconds_sum"]
    assert 100 * 0.003 < emulated_s <= 5 * wall_s


def test_how_late_it_delivers_is_read_as_studies_read_it(client: httpx.Client) -> None:
    client.post("/v1/completions", json={"prompt": [1], "max_tokens": 30}).raise_for_status()
    lag = first(lambda: emulator_lag(str(client.base_url).rstrip("/")))
    assert lag.counts[-1] == samples(client)["fleetune:emulator_lag_seconds_count"] > 0
    assert lag.p99_ms >= 0


def test_a_controller_reads_its_pressure_off_the_page(client: httpx.Client) -> None:
    engine = an_engine("e").evolve(url=str(client.base_url).rstrip("/"))
    reader = EnginePressures(clock=utc_now)
    told = first(lambda: reader.read([engine]).get(EngineId("e")))
    assert (told.preemptions, told.kv_usage, told.waiting) == (0, 0, 0)


def test_memory_that_leaks_with_every_request_is_told_before_it_is_full() -> None:
    with emulator("--emulator-fault=crash-after-requests=9,crash-as=gpu-memory") as running:
        engine, reader = an_engine("e").evolve(url=running.url), EnginePressures(clock=utc_now)
        before = first(lambda: reader.read([engine]).get(EngineId("e"))).gpu_memory
        assert before is not None
        for _ in range(4):
            httpx.post(
                f"{running.url}/v1/completions",
                json={"model": MODEL, "prompt": [1], "max_tokens": 1},
                timeout=240,
                trust_env=False,
            )
        wait(lambda: any((told.gpu_memory or 0) > before + 0.01 for told in reader.read([engine]).values()))
