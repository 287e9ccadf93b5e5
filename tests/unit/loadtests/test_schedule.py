"""Schedules: the same seed gives the same bytes, rates and lengths are what was asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from controlplane.domain.errors import InvalidInput
from controlplane.domain.workload import ArrivalProcess, Arrivals, Lengths, SyntheticWorkload, TraceWorkload, Workload
from loadtests.send.arrivals import DiurnalRate, RampRate, RateShape, StepRate
from loadtests.send.schedule import Schedule, build_schedule
from loadtests.send.traces import load_trace

SYNTHETIC = SyntheticWorkload(prompt_tokens=Lengths(mean=500, cv=0.5), output_tokens=Lengths(mean=100, cv=1, max=400))


def trace_workload(process: ArrivalProcess, **more: object) -> Workload:
    arrivals = Arrivals(process=process, burstiness=0.5)
    return TraceWorkload.model_validate({"trace": "azure-llm-2023/conv", "arrivals": arrivals} | more)


def build(
    workload: Workload = SYNTHETIC,
    *,
    rate: float = 20,
    seconds: float = 500,
    seed: int = 1,
    shape: RateShape | None = None,
) -> Schedule:
    return build_schedule(workload, rate_rps=rate, duration_s=seconds, seed=seed, shape=shape)


@pytest.mark.parametrize("process", ArrivalProcess)
def test_same_seed_gives_the_same_bytes_and_another_seed_others(process: ArrivalProcess, tmp_path: Path) -> None:
    workload = trace_workload(process)
    build(workload).save(tmp_path / "a.npz")
    build(workload).save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert build(workload, seed=2).digest() != build(workload).digest()
    assert Schedule.load(tmp_path / "a.npz").digest() == build(workload).digest()


@pytest.mark.parametrize("process", ArrivalProcess)
def test_rate_is_the_one_wanted(process: ArrivalProcess) -> None:
    schedule = build(trace_workload(process))
    assert len(schedule) == pytest.approx(10_000, rel=0.05)
    assert (np.diff(schedule.scheduled_s) >= 0).all()
    assert schedule.scheduled_s[0] >= 0
    assert schedule.scheduled_s[-1] < 500


def test_gamma_below_one_is_burstier_than_poisson() -> None:
    def variation(process: ArrivalProcess) -> float:
        gaps = np.diff(build(trace_workload(process)).scheduled_s)
        return float(gaps.std() / gaps.mean())

    assert variation(ArrivalProcess.POISSON) == pytest.approx(1.0, abs=0.05)
    assert variation(ArrivalProcess.GAMMA) == pytest.approx(2**0.5, abs=0.1)


def test_own_arrivals_of_a_trace_keep_its_rows_together() -> None:
    trace = load_trace("azure-llm-2023/conv")
    schedule = build(trace_workload(ArrivalProcess.TRACE, max_prompt_tokens=20000, max_output_tokens=2000), seconds=50)
    wanted = list(zip(schedule.prompt_tokens.tolist(), schedule.output_tokens.tolist(), strict=True))
    rows = list(zip(trace.prompt_tokens.tolist(), trace.output_tokens.tolist(), strict=True)) * 2
    assert any(rows[start : start + len(wanted)] == wanted for start in range(len(trace)))


def test_whole_trace_is_stretched_exactly() -> None:
    trace = load_trace("azure-llm-2023/code")
    schedule = build(
        TraceWorkload(trace="azure-llm-2023/code", arrivals=Arrivals(process=ArrivalProcess.TRACE)),
        rate=len(trace) / 600,
        seconds=600,
    )
    scale = schedule.scheduled_s[-1] / trace.arrival_s[-1]
    assert len(schedule) == len(trace)
    assert np.allclose(schedule.scheduled_s, trace.arrival_s * scale, atol=1e-6)


def test_lengths_are_cut_to_the_limits() -> None:
    schedule = build(
        trace_workload(ArrivalProcess.POISSON, max_prompt_tokens=100, max_output_tokens=50, max_cut_share=1)
    )
    assert schedule.prompt_tokens.max() == 100
    assert schedule.output_tokens.max() == 50


def test_synthetic_lengths_have_mean_and_spread() -> None:
    schedule = build()
    assert schedule.prompt_tokens.mean() == pytest.approx(500, rel=0.03)
    assert schedule.prompt_tokens.std() == pytest.approx(250, rel=0.06)
    assert schedule.output_tokens.max() == 400


def test_shared_prefix_has_the_wanted_share_of_every_prompt() -> None:
    schedule = build(SYNTHETIC.evolve(shared_prefix_share=0.6))
    assert (schedule.prefix_tokens == np.floor(schedule.prompt_tokens * 0.6)).all()
    assert set(schedule.prefix_group.tolist()) == {0}


@pytest.mark.parametrize(
    ("shape", "shares"),
    [
        (RampRate(from_factor=0, to_factor=2), (0.0625, 0.1875, 0.3125, 0.4375)),
        (StepRate(factors=(1, 0, 2, 1)), (0.25, 0, 0.5, 0.25)),
        (DiurnalRate(swing=1), (0.0908, 0.4092, 0.4092, 0.0908)),
    ],
)
def test_rate_follows_its_shape(shape: RateShape, shares: tuple[float, ...]) -> None:
    schedule = build(shape=shape, rate=50)
    counts, _ = np.histogram(schedule.scheduled_s, bins=4, range=(0, 500))
    assert (counts / 25_000).tolist() == pytest.approx(shares, abs=0.012)


@pytest.mark.parametrize(("rate", "seconds"), [(0, 10), (-1, 10), (float("nan"), 10), (1, 0), (1, float("inf"))])
def test_impossible_rates_and_durations_are_refused(rate: float, seconds: float) -> None:
    with pytest.raises(InvalidInput, match="positive"):
        build(rate=rate, seconds=seconds)
