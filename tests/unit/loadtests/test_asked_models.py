"""Requests of a load test ask for the model and its adapters by their shares, the same ones for the same seed."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from controlplane.domain.workload import Lengths, SyntheticWorkload
from loadtests.send.client.wire import RequestWriter, asked_models
from loadtests.send.plan import Plan, parse_target
from loadtests.send.schedule import build_schedule

WORKLOAD = SyntheticWorkload(prompt_tokens=Lengths(mean=10), output_tokens=Lengths(mean=5))


def a_plan(adapters: dict[str, float], seed: int = 1) -> Plan:
    url, path = "http://127.0.0.1:1", "/nowhere"
    return Plan(url=url, model="m", out_dir=path, schedule_path=path, adapters=adapters, adapter_seed=seed)


def test_shares_are_kept_to_the_request() -> None:
    names, asked = asked_models(a_plan({"a": 0.3, "b": 0.05}), 200)
    assert names == ["m", "a", "b"]
    assert Counter(asked) == {0: 130, 1: 60, 2: 10}
    assert len(set(asked[:20])) > 1  # not one after the other


@pytest.mark.parametrize("adapters", [{}, {"a": 1.0}, {"a": 0.5, "b": 0.5001}])
def test_all_or_nothing_is_a_share_too(adapters: dict[str, float]) -> None:
    names, asked = asked_models(a_plan(adapters), 50)
    assert {names[each] for each in asked} == (set(adapters) or {"m"})


def test_the_same_seed_asks_the_same_again_and_another_one_otherwise() -> None:
    first, again, other = (asked_models(a_plan({"a": 0.5}, seed), 100)[1] for seed in (1, 1, 2))
    assert first == again != other


def test_each_request_names_whom_it_asks(tmp_path: Path) -> None:
    plan = a_plan({"a": 0.5})
    schedule = build_schedule(WORKLOAD, rate_rps=20, duration_s=5, seed=1)
    writer = RequestWriter(plan, parse_target(plan.url), schedule)
    bodies = [json.loads(writer.render(index).partition(b"\r\n\r\n")[2]) for index in range(len(schedule))]
    named = Counter(body["model"] for body in bodies)
    assert named["a"] + named["m"] == len(schedule)
    assert abs(named["a"] - named["m"]) <= 1
