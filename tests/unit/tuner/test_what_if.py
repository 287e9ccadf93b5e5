"""What the twin answers to a person."""

from __future__ import annotations

import pytest

from controlplane.domain.errors import InvalidInput
from controlplane.domain.hardware import GpuPool
from controlplane.domain.operations.replica_capacity import Source
from controlplane.domain.operations.what_if import WhatIf
from controlplane.domain.service import ModelSpec, ServiceSpec
from controlplane.domain.slo import LatencyMetric, LatencySlo, SloSet
from controlplane.services.what_if import what_if
from tests.builders_serving import a_spec


def an_8b_spec() -> ServiceSpec:
    limit = LatencySlo(metric=LatencyMetric.TTFT, percentile=95, limit_ms=500)
    return a_spec(slos=SloSet(latency=(limit,), target_qps=40))


def test_latency_grows_along_the_curve_and_is_told_at_the_limits_own_percentile() -> None:
    answer = what_if(an_8b_spec(), WhatIf(rate_rps=5, curve=True))
    assert answer.point is not None
    expected = answer.point.latency["ttft_ms_p95"]
    assert expected.low < expected.value < expected.high
    first, last = answer.curve[0], answer.curve[-1]
    assert first.rate_rps < last.rate_rps
    assert first.latency["e2e_ms_p50"].value < last.latency["e2e_ms_p50"].value


def test_the_fleet_carries_the_asked_target_with_headroom() -> None:
    spec = an_8b_spec()
    once, twice = (what_if(spec, WhatIf(target_qps=qps)) for qps in (400, 800))
    assert once.capacity is not None
    assert once.fleet is not None
    assert twice.fleet is not None
    assert once.fleet.replicas * once.capacity.rps * (1 - spec.tuning.objective.headroom) >= 400
    assert twice.fleet.replicas > once.fleet.replicas


def test_a_fleet_beyond_the_services_gpus_is_said_to_be_so() -> None:
    spec = an_8b_spec()
    within, beyond = (what_if(spec, WhatIf(target_qps=qps)) for qps in (1, 4000))
    assert beyond.fleet is not None
    assert f"this fleet needs {beyond.fleet.gpus} GPUs, the service has {spec.gpus.count}" in beyond.notes
    assert not any("this fleet" in note for note in within.notes)


def test_a_fleet_beyond_what_may_be_spent_is_said_to_be_so_and_what_the_money_holds() -> None:
    free = an_8b_spec()
    wanted = what_if(free, WhatIf(target_qps=400))
    assert wanted.fleet is not None
    assert wanted.capacity is not None
    assert wanted.fleet.replicas > 1
    per_replica = wanted.fleet.usd_per_hour / wanted.fleet.replicas
    spec = free.evolve(slos=free.slos.evolve(max_usd_per_hour=per_replica * 1.5))
    found = what_if(spec, WhatIf(target_qps=400)).notes
    held = wanted.capacity.rps * (1 - spec.tuning.objective.headroom)
    assert any(f"it pays for 1 replica, good for {held:.3g} requests/s" in note for note in found)
    poor = free.evolve(slos=free.slos.evolve(max_usd_per_hour=per_replica / 2))
    assert any("it does not pay for one replica" in note for note in what_if(poor, WhatIf(target_qps=400)).notes)
    roomy = free.evolve(slos=free.slos.evolve(max_usd_per_hour=wanted.fleet.usd_per_hour))
    assert not any("max_usd_per_hour" in note for note in what_if(roomy, WhatIf(target_qps=400)).notes)


def test_longer_outputs_leave_less_capacity() -> None:
    short, long = (what_if(an_8b_spec(), WhatIf(output_tokens=tokens)).capacity for tokens in (20, 400))
    assert short is not None
    assert long is not None
    assert long.rps < short.rps


def test_a_model_that_does_not_fit_is_refused_with_the_reason() -> None:
    spec = an_8b_spec().evolve(model=ModelSpec(name="big", path="llama-70b"))
    answer = what_if(spec, WhatIf())
    assert answer.refusal is not None
    assert "does not fit" in answer.refusal
    assert answer.capacity is None


def test_an_unknown_model_or_gpu_is_named() -> None:
    with pytest.raises(InvalidInput, match="does not know the model"):
        what_if(an_8b_spec().evolve(model=ModelSpec(name="x", path="nobody/knows")), WhatIf())
    with pytest.raises(InvalidInput, match="Z9000"):
        what_if(an_8b_spec().evolve(gpus=GpuPool(type="Z9000", count=1, price_usd_per_gpu_hour=1)), WhatIf())


def test_the_capacity_model_of_a_forecast_says_the_same_rate_in_every_unit() -> None:
    answer = what_if(an_8b_spec(), WhatIf())
    assert answer.capacity is not None
    assert answer.replica is not None
    replica = answer.replica
    assert (replica.rate_rps.value, replica.source) == (answer.capacity.rps, Source.TWIN)
    assert replica.concurrent is not None
    assert replica.kv_percent is not None
    assert replica.concurrency_limit is not None
    assert 0 < replica.concurrent.low <= replica.concurrent.value < replica.concurrency_limit
    assert 0 < replica.kv_percent.value <= 100
