"""A step lasts until a request that hangs must have shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlplane.cli.demo import EXAMPLE
from controlplane.domain.door.gateway_options import GatewayOptions
from controlplane.domain.engines.engine import EngineKind
from controlplane.domain.errors import InvalidInput
from controlplane.domain.rollouts.patience import check_patience, hangs_show, patient
from controlplane.domain.rollouts.rollout_options import RolloutOptions, StepSpec
from controlplane.domain.service import EmulatorOptions, EngineOptions
from controlplane.domain.slo import LatencyMetric, LatencySlo, SloSet
from controlplane.reading.service_file import load_service
from tests.builders_serving import a_spec

TTFT = LatencySlo(metric=LatencyMetric.TTFT, percentile=95, limit_ms=40_000)
TPOT = LatencySlo(metric=LatencyMetric.TPOT, percentile=95, limit_ms=80)
E2E = LatencySlo(metric=LatencyMetric.E2E, percentile=95, limit_ms=90_000)
EXAMPLES = [EXAMPLE, *sorted((Path(__file__).parents[3] / "examples").rglob("*.yaml"))]
DESCRIBED = [path for path in EXAMPLES if "\nslos:" in path.read_text()]
GATEWAY = GatewayOptions(first_token_timeout_s=120, stall_timeout_s=20)


@pytest.mark.parametrize(
    ("limits", "time_lapse", "after_s"),
    [
        ((TTFT, TPOT), 1, 40),  # in flight beyond its limit
        ((TTFT, TPOT), 4, 20),  # sooner by the wall clock, but a stall needs the gateway's patience
        ((E2E,), 1, 90),
        ((TTFT, E2E), 1, 40),
        ((TPOT,), 1, 120),  # nothing is promised of a first token
    ],
)
def test_a_hang_shows_by_a_limit_or_by_the_gateways_patience(
    limits: tuple[LatencySlo, ...], time_lapse: float, after_s: float
) -> None:
    engine = a_spec().engine.evolve(emulator=EmulatorOptions(time_lapse=time_lapse))
    spec = a_spec(slos=SloSet(latency=limits, target_qps=1), gateway=GATEWAY, engine=engine)
    assert spec.engine.time_lapse == time_lapse
    assert hangs_show(spec).after_s == after_s


def test_what_comes_in_one_piece_cannot_stall_and_is_given_up_later() -> None:
    embed = EngineOptions(kind=EngineKind.EMBED)
    limited = a_spec(engine=embed, slos=SloSet(latency=(E2E,), target_qps=1), gateway=GATEWAY)
    assert hangs_show(limited).after_s == 90
    assert hangs_show(limited.evolve(slos=SloSet(latency=(TPOT,), target_qps=1))).after_s == 600


def test_what_a_step_does_not_declare_is_what_hangs_need() -> None:
    slos = a_spec().slos.evolve(latency=(TTFT, TPOT))
    steps = (StepSpec(weight_percent=5), StepSpec(weight_percent=20, min_s=300), StepSpec(weight_percent=100, max_s=30))
    spec = a_spec(gateway=GATEWAY, slos=slos)
    wait_s = hangs_show(spec).after_s
    assert [step.min_s for step in patient(RolloutOptions(steps=steps), spec).steps] == [wait_s, 300, 30]
    quick = spec.evolve(gateway=GatewayOptions(stall_timeout_s=1), slos=slos.evolve(latency=(TPOT, TTFT)))
    assert min(s.least_s for s in patient(RolloutOptions(), quick).steps) >= 10


def test_a_step_that_may_be_over_before_is_refused_with_both_numbers() -> None:
    spec = a_spec(gateway=GATEWAY, slos=a_spec().slos.evolve(latency=(TPOT,)))
    steps = (StepSpec(weight_percent=5, min_s=120), StepSpec(weight_percent=100, min_s=30))
    with pytest.raises(InvalidInput) as refused:
        check_patience(RolloutOptions(steps=steps), spec)
    assert str(refused.value) == (
        "rollout.steps 2 (100 %): min_s 30 is shorter than 120 s: a request that hangs shows only then: "
        "gateway.first_token_timeout_s is 120, and no limit on a first token shows it "
        "(allowed: min_s 120 or more, or leave it out, or 0 to wait for no hang; or shorter time-outs of the gateway)"
    )
    with pytest.raises(InvalidInput, match="max_s 60 is shorter than 120 s"):
        check_patience(RolloutOptions(steps=(StepSpec(weight_percent=100, max_s=60),)), spec)
    check_patience(RolloutOptions(), spec)
    check_patience(RolloutOptions(steps=(StepSpec(weight_percent=100, min_s=0, max_s=60),)), spec)  # a person's word


@pytest.mark.parametrize("path", DESCRIBED, ids=lambda path: path.name)
def test_no_service_that_ships_has_a_step_that_ends_before_its_hangs_show(path: Path) -> None:
    spec = load_service(path)
    check_patience(spec.rollout, spec)
