"""Numbers as a person reads them."""

from __future__ import annotations

import pytest

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.service import EmulatorOptions
from controlplane.domain.studies.capacity import Capacity
from dashboards import words
from tests.builders_serving import a_spec


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0"),
        (0.1234, "0.123"),
        (1.234, "1.23"),
        (12.34, "12.3"),
        (123.4, "123"),
        (1234.5, "1\u202f234"),
    ],
)
def test_numbers_have_three_significant_digits(value: float | None, text: str) -> None:
    assert words.number(value) == text


def test_latencies_above_ten_seconds_are_shown_in_seconds() -> None:
    assert words.latency(9990) == ("9\u202f990", "ms")
    assert words.latency(12_340) == ("12.3", "s")


def test_a_capacity_without_a_failing_rate_is_a_lower_bound() -> None:
    assert words.capacity(Capacity(rps=8, low_rps=8, high_rps=8, censored=True)) == "≥ 8.00"
    assert words.capacity(Capacity(rps=3, low_rps=2.5, high_rps=3.5)) == "3.00 (2.50–3.50)"


def test_changes_name_what_was_set_and_what_was_left_out() -> None:
    baseline = EngineConfig(flags={"max-num-seqs": 256, "tensor-parallel-size": 2})
    assert words.changes(EngineConfig(flags={"tensor-parallel-size": 1}), baseline) == (
        "tensor-parallel-size=1  −max-num-seqs"
    )
    assert words.changes(baseline, baseline) == "–"


@pytest.mark.parametrize(
    ("seconds", "text"), [(12, "12 s"), (200, "3 min 20 s"), (2470, "41 min"), (7500, "2 h 05 min"), (None, "–")]
)
def test_spans_are_read_at_a_glance(seconds: float | None, text: str) -> None:
    assert words.span(seconds) == text


def test_a_load_test_is_named_as_it_can_be_typed() -> None:
    spec = a_spec()
    lapsed = spec.evolve(engine=spec.engine.evolve(emulator=EmulatorOptions(time_lapse=4)))
    command = "fleetune load -f chat --target http://127.0.0.1:8000 --model "
    assert words.load_command(None) == f"{command}MODEL"
    assert words.load_command(spec) == f"{command}{spec.model.name}"
    assert words.load_command(lapsed) == f"{command}{spec.model.name} --time-lapse 4"
