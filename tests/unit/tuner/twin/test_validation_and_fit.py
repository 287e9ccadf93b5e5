"""Measured files in, profiles and errors out: on engines made by the twin itself, so the truth is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.errors import InvalidInput
from tests.unit.tuner.twin.builders import a_profile
from tuner.twin.fit import fit_profile
from tuner.twin.measurements import MeasuredEngine, read_file, read_folder
from tuner.twin.optimise import minimise
from tuner.twin.setup import resolve
from tuner.twin.shapes import load_shape
from tuner.twin.simulate import RequestArrays, simulate
from tuner.twin.validate import leave_one_out, source_name, validate

TRUTH = a_profile(intake_ms=1.4, launch_eager_ms=18, matmul_efficiency=0.62, memory_efficiency=0.7)
ARGS = {"max-model-len": "8192", "max-num-seqs": "64", "max-num-batched-tokens": "2048"}
COLUMNS = ["scheduled_s", "ttft_s", "e2e_s", "prompt_tokens", "output_tokens", "send_lag_s", "max_gap_s"]


def a_measurement(workload: dict[str, Any], requests: RequestArrays) -> dict[str, Any]:
    result = simulate(resolve(load_shape("llama-8b"), "H200", EngineConfig(flags=ARGS), TRUTH), requests)
    rows = zip(
        requests.scheduled_s.tolist(),
        result.ttft_s.tolist(),
        result.e2e_s.tolist(),
        requests.prompt_tokens.tolist(),
        requests.output_tokens.tolist(),
        (requests.prompt_tokens * 0.7e-6).tolist(),
        result.max_gap_s.tolist(),
        strict=True,
    )
    return {"workload": workload, "unfinished": 0, "requests": [list(row) for row in rows]}


def a_burst(isl: int, osl: int, n: int) -> dict[str, Any]:
    requests = RequestArrays(np.zeros(n), np.full(n, isl, np.int64), np.full(n, osl, np.int64))
    return a_measurement({"probe": {"isl": isl, "osl": osl, "n": n}}, requests)


def a_trace(rate: float) -> dict[str, Any]:
    rng = np.random.default_rng(3)
    requests = RequestArrays(
        np.cumsum(rng.exponential(1 / rate, 120)), rng.integers(50, 3000, 120), rng.integers(5, 200, 120)
    )
    return a_measurement({"trace": "made/up", "arrivals": "poisson", "rate_rps": rate}, requests)


def a_file(folder: Path, **changes: Any) -> Path:
    bursts = ((128, 1, 1), (1024, 1, 1), (4096, 1, 1), (128, 48, 1), (128, 48, 8), (128, 48, 32))
    content = {
        "id": "made-up",
        "engine": "vllm 0.26.0",
        "gpu": "NVIDIA H200 141GB",
        "model": "Llama-3.1-8B shape, dummy weights",
        "args": ARGS,
        "kv_cache_tokens": 920000.0,
        "weights_gib_per_gpu": 15.0,
        "columns": COLUMNS,
        "gauge_columns": [],
        "measurements": [*(a_burst(*burst) for burst in bursts), a_trace(6.0), a_trace(12.0)],
    }
    file = folder / "made-up.json"
    file.write_text(json.dumps(content | changes))
    return file


@pytest.fixture
def engine(tmp_path: Path) -> MeasuredEngine:
    return read_file(a_file(tmp_path))


def test_the_profile_an_engine_ran_with_predicts_it_exactly(engine: MeasuredEngine) -> None:
    report = validate([engine], lambda _: TRUTH)
    assert len(report.cells) == 12
    assert report.p90_abs_error == pytest.approx(0, abs=1e-6)
    assert report.coverage == 1
    assert report.kv[0].fits


def test_a_wrong_profile_is_found_out(engine: MeasuredEngine) -> None:
    wrong = TRUTH.evolve(parameters=TRUTH.parameters.evolve(memory_efficiency=0.35))
    assert validate([engine], lambda _: wrong).median_abs_error > 0.2


def test_cells_a_profile_was_fitted_on_are_left_out(engine: MeasuredEngine) -> None:
    fitted = TRUTH.evolve(sources=("made-up: made/up @ 6",))
    report = validate([engine], lambda _: fitted)
    assert report.left_out == ("made-up: made/up @ 6",)
    assert {cell.rate_rps for cell in report.cells} == {12.0}


def test_a_fit_recovers_the_engine_on_a_rate_it_never_saw(engine: MeasuredEngine) -> None:
    profile = fit_profile("found", [engine], trace_cell="made-up: made/up @ 6", generations=25)
    report = validate([engine], lambda _: profile)
    assert report.median_abs_error < 0.05
    assert "made-up: made/up @ 6" in profile.sources
    assert "made-up: made/up @ 12" not in profile.sources


def test_leaving_its_own_kind_out_carries_another_profile_over(engine: MeasuredEngine) -> None:
    profile = leave_one_out(engine)
    assert profile.transferred_from
    assert profile.transferred_from != "h200-llama-8b-bf16-tp1"


def test_a_fit_needs_probes_and_a_cell_that_exists(engine: MeasuredEngine) -> None:
    traces = engine._replace(cells=tuple(cell for cell in engine.cells if not cell.is_probe))
    with pytest.raises(InvalidInput, match="no probe"):
        fit_profile("x", [traces])
    with pytest.raises(InvalidInput, match="made/up @ 6"):
        fit_profile("x", [engine], trace_cell="made-up: other @ 1")


def test_a_cell_is_named_by_engine_and_workload(engine: MeasuredEngine) -> None:
    assert source_name(engine, engine.cells[-1]) == "made-up: made/up @ 12"


def test_an_overloaded_cell_counts_as_saturated_not_as_an_error(tmp_path: Path) -> None:
    engine = read_file(a_file(tmp_path, measurements=[a_trace(200.0)]))
    report = validate([engine], lambda _: TRUTH)
    (cell,) = report.saturated
    assert cell.predicted_saturated
    assert cell.predicted_capacity_rps == pytest.approx(cell.measured_capacity_rps)
    assert np.isnan(report.median_abs_error)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"columns": ["a"]}'])
def test_a_file_in_another_format_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "odd.json").write_text(text)
    with pytest.raises(InvalidInput, match=r"odd\.json"):
        read_folder(tmp_path)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no measurements"):
        read_folder(tmp_path)


def test_the_optimiser_finds_the_bottom_of_a_rough_bowl() -> None:
    target = np.array([1.0, -2.0, 0.5])

    def rough(point: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
        return float(np.sum((point - target) ** 2) + 0.01 * np.sin(50 * point).sum())

    found = minimise(rough, np.zeros(3), np.ones(3), generations=80, seed=0)
    np.testing.assert_allclose(found, target, atol=0.15)
