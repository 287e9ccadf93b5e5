"""What if: move the rate, the lengths and the flags; the twin says what would happen. Nothing is started."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import streamlit as st

from controlplane.domain.engines.flags import FlagValue
from controlplane.domain.operations.what_if import WhatIf, WhatIfAnswer
from controlplane.domain.serving import Service
from controlplane.domain.studies.capacity import Capacity, FleetSize
from controlplane.domain.studies.study import Trial
from dashboards import components, theme, words
from dashboards.charts import study as charts_study
from dashboards.charts import what_if as charts_what_if
from dashboards.client import ApiClient, ApiProblem
from dashboards.markup import Card
from dashboards.page import choose_service, no_service

_AS_IT_IS = "as the service has it"
# The knobs a person turns first.
_KNOBS: dict[str, tuple[FlagValue, ...]] = {
    "quantization": (_AS_IT_IS, "fp8"),
    "kv-cache-dtype": (_AS_IT_IS, "fp8"),
    "tensor-parallel-size": (_AS_IT_IS, 1, 2, 4, 8),
    "max-num-seqs": (_AS_IT_IS, 32, 64, 128, 256, 512, 1024),
    "max-num-batched-tokens": (_AS_IT_IS, 512, 1024, 2048, 4096, 8192, 16384),
    "gpu-memory-utilization": (_AS_IT_IS, 0.8, 0.85, 0.9, 0.95),
}


def show(client: ApiClient) -> None:
    """Render the page."""
    services = client.services()
    if not services:
        no_service("What if")
        return
    service = choose_service(services)
    components.headline("What if", f"{service.name} · the digital twin's expectation, nothing is started")
    measured = _measured(client, service)  # asked while the heading alone is drawn: the knobs take a browser longer
    left, right = st.columns([1, 3], gap="large")
    with left:
        question = _question(service)
    with right:
        try:
            answer = _ask(client, service.model_dump_json(), service.name, question.model_dump_json())
        except ApiProblem as problem:
            components.note("The twin cannot answer this", str(problem))
            return
        _show(service, answer, measured if _of_its_traffic(question) else ())


@st.cache_data(ttl=60, max_entries=200, show_spinner="The twin computes …")
def _ask(_client: ApiClient, described: str, service: str, question: str) -> WhatIfAnswer:
    # A question costs the API some hundred milliseconds, and the page asks again at every refresh.
    # `described` is part of what the answer is kept for: a changed service is asked about anew.
    return _client.predict(service, WhatIf.model_validate_json(question))


def _question(service: Service) -> WhatIf:
    target = service.spec.slos.target_qps
    qps = st.slider("Target of the fleet, requests/s", 0.1, float(max(10, 4 * target)), float(target), key="qps")
    rate = st.slider("Rate of one replica, requests/s", 0.1, float(max(10, 2 * target)), min(2.0, target), key="rps")
    prompt = output = None
    if st.toggle("Other lengths", key="lengths"):
        prompt = st.slider("Mean prompt, tokens", 16, 8192, 1024, key="prompt")
        output = st.slider("Mean output, tokens", 1, 2048, 256, key="output")
    flags = {flag: st.selectbox(flag, values, key=f"knob-{flag}") for flag, values in _KNOBS.items()}
    return WhatIf(
        rate_rps=rate,
        target_qps=qps,
        flags={flag: value for flag, value in flags.items() if value != _AS_IT_IS},
        prompt_tokens=prompt,
        output_tokens=output,
        curve=True,
    )


def _show(service: Service, answer: WhatIfAnswer, measured: Sequence[Trial]) -> None:
    doubts = "".join(f"<br>Less sure here: {escape(text)}." for text in answer.notes)
    rests_on = f"profile {escape(answer.profile)} ({escape(answer.origin)})"
    st.html(
        f'<div class="ft-emulated"><b>Predicted</b> by the twin, {rests_on}: '
        f"no engine was started for these figures.{doubts}</div>"
    )
    if answer.refusal is not None:
        components.note("This engine would not start", answer.refusal)
        return
    components.cards(_cards(service, answer))
    if any(trial.config == answer.config for trial in measured):
        components.emulation(service.spec.engine.kind, service.spec.gpus.type, service.spec.engine.time_lapse)
    for name, slo in charts_study.tightest(service.spec).items():
        figure = charts_what_if.curve(answer, slo, measured)
        components.chart(figure, key=f"curve-{name}", title=words.percentile(slo), help_=charts_what_if.HELP)


def _cards(service: Service, answer: WhatIfAnswer) -> list[Card]:
    cards = [] if answer.capacity is None else [_capacity(answer.capacity)]
    if answer.fleet is not None:
        cards.append(_replicas(answer.fleet, service.spec.gpus.count))
        cards.append(Card("Fleet cost", words.usd(answer.fleet.usd_per_hour), "/h", "headroom included"))
    if answer.usd_per_million_tokens is not None:
        price = words.usd(answer.usd_per_million_tokens, 3)
        cards.append(Card("Per million tokens", price, "", "prompt and output"))
    if answer.kv_tokens is not None:
        cards.append(Card("KV cache", words.count(answer.kv_tokens), "", "tokens"))
    if answer.point is not None:
        cards += _point(service, answer)
    return cards


def _replicas(size: FleetSize, owned: int) -> Card:
    colour = theme.GOOD if size.gpus <= owned else theme.BAD
    return Card("Replicas for the target", str(size.replicas), "", f"{size.gpus} GPUs, {owned} are there", colour)


def _capacity(capacity: Capacity) -> Card:
    between = f"90 %: {words.number(capacity.low_rps)} to {words.number(capacity.high_rps)}"
    return Card("Capacity of one replica", words.number(capacity.rps), "req/s", between, theme.WINNER)


def _point(service: Service, answer: WhatIfAnswer) -> list[Card]:
    point = answer.point
    assert point is not None
    if point.saturated:
        return [Card("At this rate", "saturated", "", "requests queue up faster than they leave", theme.BAD)]
    cards = []
    for slo in service.spec.slos.latency:
        expected = point.latency.get(charts_what_if.latency_name(slo))
        if expected is not None:
            colour = theme.GOOD if expected.value <= slo.limit_ms else theme.BAD
            name = f"{words.percentile(slo)} at {point.rate_rps:g} req/s"
            between = f"90 %: {words.number(expected.low)} to {words.number(expected.high)} ms"
            cards.append(Card(name, *words.latency(expected.value), between, colour))
    return cards


def _measured(client: ApiClient, service: Service) -> Sequence[Trial]:
    studies = client.studies(service.name)
    return [trial for study in studies[:3] for trial in client.trials(study.study_id)]


def _of_its_traffic(question: WhatIf) -> bool:
    """Say whether the question is about the service's own traffic, which its trials measured."""
    return question.prompt_tokens is None and question.output_tokens is None
