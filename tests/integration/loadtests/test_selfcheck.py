"""The ground-truth server and the generator's check of itself. No figure is asserted: the machine may be busy."""

from __future__ import annotations

import math

from loadtests.selfcheck import selfcheck


def test_every_rate_has_its_errors_and_a_verdict() -> None:
    rows = selfcheck([20, 60], seconds=2)
    assert [row.rate_rps for row in rows] == [20, 60]
    for row in rows:
        assert all(math.isfinite(each) for each in (row.ttft_error, row.tpot_error, row.itl_error, row.e2e_error))
        assert row.holds == (row.reason == "")
        assert row.ttft_error > -0.05  # nothing can be measured earlier than it was sent
