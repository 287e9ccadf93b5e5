"""A demo with a seed of its own serves and tunes the same service under other arrivals."""

from __future__ import annotations

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.cli.demo import EXAMPLE, seeded
from controlplane.reading.service_file import load_service, parse_service
from loadtests.send.schedule import build_schedule


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 10**6))
def test_what_a_seeded_demo_writes_is_read_as_it_was(seed: int) -> None:
    spec = seeded(load_service(EXAMPLE), seed)
    assert parse_service(yaml.safe_dump(spec.model_dump(mode="json")), source="the demo's") == spec


def test_only_chance_differs_between_seeds() -> None:
    plain = load_service(EXAMPLE)
    one, other = (seeded(plain, seed) for seed in (3, 4))
    arrivals = [build_schedule(s.workload, rate_rps=3, duration_s=20, seed=s.workload.seed) for s in (one, other)]
    assert arrivals[0].scheduled_s.tolist() != arrivals[1].scheduled_s.tolist()
    assert one.tuning.seed == 3
    assert seeded(one, plain.tuning.seed).evolve(workload=plain.workload) == plain
