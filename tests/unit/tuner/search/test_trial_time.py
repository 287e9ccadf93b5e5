"""What a trial is expected to take: learned from the study's own starts, shared compile caches included."""

from __future__ import annotations

import numpy as np
import pytest

from controlplane.domain.engines.engine import EngineConfig
from tuner.search.advisor import advise
from tuner.search.alone import FIRST
from tuner.search.candidates import Candidates, Tried, candidates
from tuner.search.trial_time import Start, TrialTime, compile_class, trial_time
from tuner.space.space import Dimension, Space

SPACE = Space(
    base=EngineConfig(),
    dimensions=(
        Dimension(flag="max-num-seqs", choices=(64, 128)),
        Dimension(flag="max-num-batched-tokens", choices=(1024, 2048, 4096)),
        Dimension(flag="tensor-parallel-size", choices=(1, 2)),
    ),
)
POINTS = list(SPACE.points())
LEVEL_S = 16.0


def row(seqs: int, tokens: int, gpus: int = 1) -> int:
    return POINTS.index({"max-num-seqs": seqs, "max-num-batched-tokens": tokens, "tensor-parallel-size": gpus})


def times() -> TrialTime:
    return trial_time([SPACE.config(point) for point in POINTS], level_s=LEVEL_S)


def test_what_vllm_does_not_compile_in_makes_no_class_of_its_own() -> None:
    base = EngineConfig(flags={"quantization": "fp8", "max-num-batched-tokens": 2048})
    same = base.with_flags({"max-num-seqs": 32, "gpu-memory-utilization": 0.95, "enable-prefix-caching": False})
    assert compile_class(same) == compile_class(base)
    for flag, value in (("max-num-batched-tokens", 4096), ("kv-cache-dtype", "fp8"), ("tensor-parallel-size", 2)):
        assert compile_class(base.with_flags({flag: value})) != compile_class(base)


def test_a_start_whose_class_was_started_on_this_host_is_expected_to_be_quicker() -> None:
    starts = [Start(row(64, 1024), 120.0, 40.0, "a")]
    here, elsewhere = times().expected_gpu_s(starts, host="a"), times().expected_gpu_s(starts, host="b")
    assert here[row(128, 1024)] < 0.85 * here[row(128, 2048)]
    assert elsewhere[row(128, 1024)] == pytest.approx(elsewhere[row(128, 2048)])


def test_of_what_compiling_takes_a_part_may_be_charged() -> None:
    starts, fresh = [Start(row(64, 1024), 120.0, 40.0, "a")], row(128, 2048)
    none, half, whole = (
        times().expected_gpu_s(starts, host="a", compile_share=share)[[row(128, 1024), fresh]] for share in (0, 0.5, 1)
    )
    assert none[0] == none[1] == half[0] == whole[0]
    assert half[1] == pytest.approx((none[1] + whole[1]) / 2)


def test_how_much_quicker_is_learned_from_the_study_s_own_starts() -> None:
    """Here compiling takes far longer than where the prior is from, and on emulated engines nothing at all."""

    def expected(fresh_s: float, known_s: float) -> tuple[float, float]:
        shown = ((row(64, 1024), fresh_s), (row(128, 1024), known_s), (row(64, 2048), fresh_s))
        found = times().expected_gpu_s([Start(each, seconds, 0.0) for each, seconds in shown])
        levels_s = 2.5 * LEVEL_S / (1 + len(shown))
        return float(found[row(128, 4096)] - levels_s), float(found[row(128, 1024)] - levels_s)

    assert expected(600.0, 200.0) == pytest.approx((600.0, 200.0), rel=0.2)
    assert expected(2.0, 2.0) == pytest.approx((2.0, 2.0), rel=0.2)


def test_before_any_start_a_trial_costs_what_real_ones_took_times_its_gpus() -> None:
    found = times().expected_gpu_s([])
    assert found[row(64, 1024)] == pytest.approx(117 + 2.5 * LEVEL_S, rel=0.05)
    assert 2 < found[row(64, 1024, gpus=2)] / found[row(64, 1024)] < 2.5


def test_of_two_as_promising_the_one_already_compiled_is_tried_first() -> None:
    among: Candidates = candidates(SPACE, POINTS, outlook=None, room_gib=None, level_s=LEVEL_S)
    among = among._replace(features=np.zeros_like(among.features))  # nothing tells one from the other
    once = Tried(POINTS[row(128, 4096)], log_cost=-1.0, start_s=130.0, levels_s=60.0)
    known = [once] * (FIRST + 1)  # so that no start is spread any more
    advice = advise(among, known, worthwhile=1e-9)
    assert advice.row == row(64, 4096)
