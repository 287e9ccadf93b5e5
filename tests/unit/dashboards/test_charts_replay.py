"""The chart of replays marks what got worse and says what the next one is held against."""

from __future__ import annotations

from datetime import timedelta

from dashboards.charts import replay as charts_replay
from dashboards.client import Replay
from tests.builders_serving import NOW
from tests.e2e.dashboard.seed import a_chat_spec
from tests.e2e.dashboard.seed_reports import a_report


def replay(day: int, full_rps: float, *, regressed: bool = False) -> Replay:
    report = a_report(a_chat_spec(), rate_rps=2, full_rps=full_rps, seconds=180)
    at = NOW + timedelta(days=day)
    return Replay(report_id=f"r{day}", service="chat", schedule="nightly", at=at, regressed=regressed, report=report)


def test_regressions_are_marked_and_the_baseline_is_the_last_good_one() -> None:
    series = [replay(2, 3.0, regressed=True), replay(1, 3.6), replay(0, 3.5)]
    p99, p50, worse = charts_replay.series(series, "ttft_ms").data
    assert list(p99.x) == list(p50.x) == sorted(each.at for each in series)
    assert list(worse.x) == [series[0].at]
    assert charts_replay.baseline_of(series) is series[1]


def test_a_series_of_regressions_only_has_no_baseline() -> None:
    assert charts_replay.baseline_of([replay(0, 3.0, regressed=True)]) is None
