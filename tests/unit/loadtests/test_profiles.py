"""Profiles and mixes: the shipped ones run, wrong ones say where, mixes have what was asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from controlplane.domain.errors import InvalidInput
from controlplane.domain.workload import Arrivals, Lengths
from loadtests.send.mixes import Part, SharedPrefix, Turns, build_mix
from loadtests.send.profiles import load_profile, shipped_profiles

SHORT = Lengths(mean=50, cv=0.2)
GOOD = "name: a\nrate_rps: 1\nworkload: {kind: trace, trace: azure-conv-2023}"


@pytest.mark.parametrize("name", ["agentic", "chat", "code", "embedding", "mixed", "rag", "summarise"])
def test_shipped_profiles_send_the_same_every_time(name: str) -> None:
    profile = load_profile(name)
    assert name in shipped_profiles()
    assert profile.description
    assert profile.schedule().digest() == profile.schedule().digest()
    assert profile.schedule().digest() != profile.evolve(seed=1).schedule().digest()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nrate_rps: -1\nworkload: {kind: trace, trace: x}", "rate_rps"),
        ("name: a\nrate_rps: 1\nspeed: 3\nworkload: {kind: trace, trace: x}", "speed: unknown field"),
        ("name: a\nrate_rps: 1", "either a workload or a mix"),
        (f"{GOOD}\nextra_body: {{stream: false}}", "extra_body: stream is not for extra_body (answers are always"),
        (f"{GOOD}\nextra_body: {{model: x, ignore_eos: false}}", "(it is --model); ignore_eos is not for extra_body"),
        (f"{GOOD}\nextra_body: {{max_completion_tokens: 5}}", "prompts and lengths come from the workload or mix"),
        ("name: [", "not YAML"),
        ("just words", "it holds a text"),
    ],
)
def test_wrong_profiles_say_where(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(InvalidInput) as refused:
        load_profile(str(tmp_path / "p.yaml"))
    assert message in str(refused.value)


def test_other_fields_of_a_request_are_free(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(f"{GOOD}\nextra_body: {{top_p: 0.9, temperature: 1}}")
    assert load_profile(str(tmp_path / "p.yaml")).extra_body == {"top_p": 0.9, "temperature": 1}


def test_unknown_profile_names_the_known() -> None:
    with pytest.raises(InvalidInput, match="agentic, chat"):
        load_profile("no-such")


def test_prompts_beyond_the_context_are_refused_before_anything_is_sent() -> None:
    with pytest.raises(InvalidInput, match="longer than the model's context"):
        load_profile("chat").evolve(max_model_len=500).schedule()


def test_documents_are_shared_and_popular_ones_more_often() -> None:
    part = Part(
        name="q",
        prompt_tokens=SHORT,
        output_tokens=SHORT,
        shared_prefix=SharedPrefix(tokens=1000, documents=10, zipf=1),
    )
    schedule = build_mix((part,), Arrivals(), rate_rps=20, duration_s=200, seed=1)
    counts = np.bincount(schedule.prefix_group)
    assert set(schedule.prefix_tokens.tolist()) == {1000}
    assert (schedule.prompt_tokens > 1000).all()
    assert counts[0] > 2 * counts[4]
    assert len(counts) == 10


def test_sessions_append_turn_by_turn() -> None:
    part = Part(name="chat", prompt_tokens=SHORT, output_tokens=SHORT, turns=Turns(mean=4, think_s=2))
    schedule = build_mix((part,), Arrivals(), rate_rps=10, duration_s=300, seed=2)
    assert len(schedule) == pytest.approx(3000, rel=0.1)
    for session in np.unique(schedule.session)[:50]:
        prompts = schedule.prompt_tokens[schedule.session == session]
        assert (np.diff(prompts) > 0).all()
    assert (schedule.prefix_tokens == schedule.prompt_tokens).all()


def test_weights_and_hanging_up_are_as_wanted() -> None:
    parts = (
        Part(name="a", weight=3, prompt_tokens=SHORT, output_tokens=SHORT, cancel_share=0.5),
        Part(name="b", weight=1, prompt_tokens=SHORT, output_tokens=SHORT, priority=7),
    )
    schedule = build_mix(parts, Arrivals(), rate_rps=20, duration_s=300, seed=3)
    second = schedule.priority == 7
    assert second.mean() == pytest.approx(0.25, abs=0.02)
    assert (schedule.cancel_after[~second] > 0).mean() == pytest.approx(0.5, abs=0.03)
    assert (schedule.cancel_after <= schedule.output_tokens).all()
    assert not schedule.cancel_after[second].any()


@pytest.mark.parametrize(("text", "what"), [("", "nothing"), ("- a", "a list"), ("hello", "a text")])
def test_a_file_without_fields_is_no_profile(tmp_path: Path, text: str, what: str) -> None:
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(InvalidInput, match=f"is not a profile: it holds {what}"):
        load_profile(str(tmp_path / "p.yaml"))


def test_a_slip_in_the_rate_is_refused_before_it_fills_the_memory() -> None:
    with pytest.raises(InvalidInput, match=r"would send 6e\+09 requests"):
        load_profile("chat").evolve(rate_rps=1e6, duration_s=6000, warmup_s=0).schedule()
