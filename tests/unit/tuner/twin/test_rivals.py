"""What else explains a baseline's levels: steps that cost what the flags allow, beside parts that are slow."""

from __future__ import annotations

import pytest

from controlplane.domain.studies.calibration import Factors
from tests.unit.tuner.twin.builders import some_requests
from tests.unit.tuner.twin.test_factors import CONFIG, PROFILE, engine_with, seen
from tuner.twin.corrected import factored
from tuner.twin.gpus import find_gpu
from tuner.twin.rivals import Explained, explain
from tuner.twin.setup import EngineSetup
from tuner.twin.shapes import load_shape
from tuner.twin.simulate import simulate

SEATS = Factors(seat_us=40.0)


def explained(setup: EngineSetup) -> Explained:
    return explain(engine_with, [seen(setup, rate_rps) for rate_rps in (4.0, 8.0, 12.0)], known=False)


def ways(found: Explained) -> list[Factors]:
    return [found.found.factors, *(rival.factors for rival in found.rivals)]


@pytest.fixture(scope="module")
def by_seats() -> Explained:
    return explained(engine_with(SEATS))


def test_a_step_that_pays_for_every_seat_is_not_taken_for_a_slow_memory(by_seats: Explained) -> None:
    """By factors of parts alone the memory was seven times as slow, and the levels were off by 3 to 4 %."""
    seats = next(way for way in ways(by_seats) if way.seat_us > 0)
    assert by_seats.found.error_after < 0.02 < by_seats.found.error_before
    assert seats.seat_us == pytest.approx(40.0, rel=0.25)
    assert seats.memory < 1.5


def test_prompts_in_pieces_are_not_taken_for_slow_launches() -> None:
    """By factors of parts alone the levels were off by more than 6 %, and the search ended beside the optimum."""
    cut = engine_with(Factors()).evolve(long_prefill_token_threshold=512)
    found = explain(engine_with, [seen(cut, rate_rps) for rate_rps in (8.0, 12.0)], known=False).found
    assert found.error_after < 0.03
    assert found.factors.piece_tokens == pytest.approx(512, rel=0.25)
    assert found.factors.eager < 1.5


def test_a_cache_that_is_mostly_gone_is_told_from_a_slow_engine() -> None:
    def made(factors: Factors) -> EngineSetup:
        config = CONFIG.with_flags({"num-gpu-blocks-override": 5000})
        return factored(load_shape("llama-8b"), find_gpu("H200"), config, factors, PROFILE)

    found = explain(made, [seen(made(Factors(cache=0.2)), rate_rps) for rate_rps in (16.0, 20.0)], known=False)
    assert found.found.factors.cache == pytest.approx(0.2, rel=0.25)
    assert found.rivals == ()


def test_every_explanation_has_its_odds_beside_the_likeliest(by_seats: Explained) -> None:
    assert all(0.05 <= rival.odds <= 1 for rival in by_seats.rivals)
    assert len(set(ways(by_seats))) == 1 + len(by_seats.rivals)


@pytest.fixture(scope="module")
def only_slow() -> Explained:
    return explained(engine_with(Factors(memory=2.0, compute=2.0)))


def test_an_engine_that_is_only_slow_is_called_slow(only_slow: Explained) -> None:
    found = only_slow.found
    assert found.error_after < 0.03
    assert found.factors.compute > 1.6
    assert (found.factors.seat_us, found.factors.padding, found.factors.piece_tokens) == (0, 0, 0)
    assert found.factors.cache == 1


def test_what_levels_do_not_tell_of_is_no_rival(only_slow: Explained) -> None:
    """A cache that is never full may be all there or a third: neither is likelier than slow parts alone."""
    assert only_slow.rivals == ()


@pytest.mark.parametrize(
    ("factors", "flag"), [(SEATS, "max-num-seqs"), (Factors(padding=0.3), "max-num-batched-tokens")]
)
def test_a_cost_by_a_flag_falls_with_the_flag(factors: Factors, flag: str) -> None:
    def e2e_s(of: Factors, value: int) -> float:
        config = CONFIG.with_flags({flag: value})
        setup = factored(load_shape("llama-8b"), find_gpu("H200"), config, of, PROFILE)
        return float(simulate(setup, some_requests(40, rate_rps=1.0)).e2e_s.mean())

    assert e2e_s(factors, 8192) > 1.3 * e2e_s(factors, 1024)
    assert e2e_s(factors, 1024) > e2e_s(Factors(), 1024)


def test_what_an_engine_holds_less_never_goes_below_one_request_or_above_the_flags() -> None:
    def made(of: Factors, **flags: int) -> EngineSetup:
        config = CONFIG.with_flags(flags)
        return factored(load_shape("llama-8b"), find_gpu("H200"), config, of, PROFILE)

    assert made(Factors(piece_tokens=767.5)).long_prefill_token_threshold == 768
    limited = made(Factors(piece_tokens=768.0), **{"long-prefill-token-threshold": 512})
    assert limited.long_prefill_token_threshold == 512
    assert made(Factors(cache=0.5)).kv_blocks == made(Factors()).kv_blocks // 2
    assert made(Factors(cache=1e-6)).kv_blocks == 8192 // 16 + 1
