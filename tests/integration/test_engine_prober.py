"""What a fresh engine is asked while it is warmed up, on a real emulator that compiles at first use."""

from __future__ import annotations

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from controlplane.adapters.engine_prober import HttpProber
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.engines.fleet import Engine
from controlplane.domain.errors import InvalidInput, Unavailable
from controlplane.domain.studies.warm_up import Probe
from loadtests.send.prompts import TokenIdPrompts
from tests.integration.emulators import MODEL, emulator
from tests.unit.observability.test_scraping import an_engine

_PATIENCE_S = 240.0
STALL_S = 9.0
PROBE = Probe(prompts=3, prompt_tokens=40, answer_tokens=4)


def at(url: str, **flags: str) -> Engine:
    engine = an_engine("e-1")
    config = EngineConfig(flags={name.replace("_", "-"): value for name, value in flags.items()})
    return engine.evolve(url=url, spec=engine.spec.evolve(served_name=MODEL, config=config))


def metrics(url: str) -> dict[str, float]:
    """Sums over all labels, by name."""
    found: dict[str, float] = {}
    headers = {"Authorization": "Bearer hush"}
    page = httpx.get(f"{url}/metrics", timeout=_PATIENCE_S, trust_env=False, verify=False, headers=headers)
    for family in text_string_to_metric_families(page.text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found


def test_the_prompts_of_a_probe_come_together_and_pay_for_what_is_compiled() -> None:
    flags = (f"--emulator-first-use-s={STALL_S}", "--emulator-time-lapse=20", "--enable-prefix-caching")
    with emulator(*flags) as running:
        before, engine, prober = metrics(running.url), at(running.url), HttpProber()
        assert prober.ask(engine, PROBE, seed=1, timeout_s=_PATIENCE_S) > 0
        cold = metrics(running.url)
        for seed in (2, 3):
            prober.ask(engine, PROBE, seed=seed, timeout_s=_PATIENCE_S)
        warm = metrics(running.url)
    assert cold["vllm:request_success_total"] - before["vllm:request_success_total"] == 3
    assert cold["vllm:prompt_tokens_total"] - before["vllm:prompt_tokens_total"] == 120
    assert cold["vllm:generation_tokens_total"] - before["vllm:generation_tokens_total"] == 12
    first_s = cold["vllm:time_to_first_token_seconds_sum"] - before["vllm:time_to_first_token_seconds_sum"]
    assert first_s >= 3 * STALL_S  # emulated: all of them waited for it
    assert warm["vllm:prefix_cache_queries_total"] > cold["vllm:prefix_cache_queries_total"]
    assert warm["vllm:prefix_cache_hits_total"] == 0  # other text each time


def test_probes_share_no_token_with_what_is_measured() -> None:
    seen: set[int] = set()

    def answers(request: httpx.Request) -> httpx.Response:
        prompts = httpx.Response(200, content=request.content).json()["prompt"]
        seen.update(token for prompt in prompts for token in prompt)
        return httpx.Response(200, json={})

    HttpProber(httpx.MockTransport(answers)).ask(at("http://engine:1"), PROBE, seed=1, timeout_s=1)
    sent = httpx.Response(200, content=TokenIdPrompts(7).render([(1, 5000)])).json()
    assert seen
    assert not seen & set(sent)


def test_what_an_engine_refuses_and_what_it_does_not_answer_are_told_apart() -> None:
    prober = HttpProber()
    with emulator("--api-key=hush") as running:
        keyed = at(running.url, api_key="hush")
        assert prober.ask(keyed, PROBE, seed=1, timeout_s=_PATIENCE_S) > 0
        with pytest.raises(InvalidInput, match="401"):
            prober.ask(at(running.url), PROBE, seed=1, timeout_s=_PATIENCE_S)
        with pytest.raises(InvalidInput, match="400"):
            prober.ask(keyed, Probe(1, 9000, 1), seed=1, timeout_s=_PATIENCE_S)
    with pytest.raises(Unavailable):
        prober.ask(keyed, PROBE, seed=1, timeout_s=_PATIENCE_S)
