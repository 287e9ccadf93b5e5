"""The kinds of traffic that drift is judged on are what they say, and a doubling is found in each."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.drift_lengths import KINDS, MEAN, RATE_RPS, Service, found_after_min, warmed


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_has_the_mean_that_was_measured_and_the_rate(name: str) -> None:
    traffic = KINDS[name](40_000, np.random.default_rng(3))
    assert traffic.tokens.mean() == pytest.approx(MEAN, rel=0.06)
    assert len(traffic.sessions) == len(traffic.at_s) == 40_000
    assert 40_000 / traffic.at_s[-1] == pytest.approx(RATE_RPS, rel=0.06)
    assert (np.diff(traffic.at_s) >= 0).all()
    assert (traffic.sessions[0] is not None) == ("named" in name)


@pytest.mark.parametrize("name", ["conversations", "interleaved, named"])
def test_a_doubling_is_found_and_request_by_request(name: str) -> None:
    found = found_after_min(KINDS[name], warmed(KINDS[name], 5), 6)
    assert found is not None
    minutes, quick = found
    assert 0 < minutes < 60
    assert quick


def test_a_day_without_a_change_alarms_nobody() -> None:
    assert not list(Service().follow(KINDS["conversations"](17_280, np.random.default_rng(7)), look=20))
