"""The ground-truth server and the generator's check of itself. No figure is asserted: the machine may be busy."""

from __future__ import annotations

import math
import os
from pathlib import Path

from benchmarks.loadgen_cores import truth_servers
from benchmarks.loadgen_ours import run_ours
from loadtests.selfcheck import read_truth, selfcheck


def test_every_rate_has_its_errors_and_a_verdict() -> None:
    rows = selfcheck([20, 60], seconds=2)
    assert [row.rate_rps for row in rows] == [20, 60]
    for row in rows:
        assert all(math.isfinite(each) for each in (row.ttft_error, row.tpot_error, row.itl_error, row.e2e_error))
        assert row.holds == (row.reason == "")
        assert row.ttft_error > -0.05  # nothing can be measured earlier than it was sent


def test_two_servers_share_one_port_and_their_truths_are_one(tmp_path: Path) -> None:
    core = min(os.sched_getaffinity(0))
    with truth_servers(tmp_path, (core, core)) as (url, truth_paths):
        outcome = run_ours(url, rate=100.0, seconds=1.0, tokens=4, cores={core}, scratch=tmp_path)
    assert outcome.failed == 0
    assert all(path.stat().st_size for path in truth_paths)
    assert read_truth(*truth_paths, skip=outcome.skipped).requests == outcome.requests
