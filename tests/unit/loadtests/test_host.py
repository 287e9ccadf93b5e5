"""A host that stalls is told from a generator that is late."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.cli.tables import load as load_tables
from controlplane.domain.report import Validity
from loadtests.measure.host import Host, HostWatch, late_p99_ms, steal_percent
from loadtests.selfcheck import CheckRow
from tests.unit.loadtests.test_report import report, table

STALLS, KEEPS = Host(14.2, 9.0), Host(0.2, 0.0)


@pytest.mark.parametrize(
    "late", [{"lag_ms": 40.0, "ttft_ms": 90.0}, {"blur_ms": 60.0, "ttft_ms": 90.0}], ids=["left late", "read late"]
)
def test_a_late_run_names_the_host_where_an_idle_timer_was_late_too(late: dict[str, Any]) -> None:
    blamed, alone = (report(table(**late), host=host) for host in (STALLS, KEEPS))
    assert blamed.validity is alone.validity is Validity.INVALID
    assert "an idle timer was 14.2 ms late at P99 and 9 % of its CPU went to other guests" in str(blamed.invalid_reason)
    assert "host" not in str(alone.invalid_reason)


def test_a_good_run_keeps_what_was_seen_of_its_host() -> None:
    good = report(table(), host=STALLS)
    assert (good.validity, good.timer_late_ms, good.steal_percent) == (Validity.VALID, 14.2, 9.0)


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=300))
def test_all_but_a_hundredth_are_no_later_than_the_percentile(late: list[int]) -> None:
    p99 = late_p99_ms(Counter(late))
    assert sum(each * 0.1 > p99 + 1e-9 for each in late) <= len(late) / 100


def test_nothing_seen_is_nothing_late() -> None:
    assert late_p99_ms(Counter()) == 0


@pytest.mark.parametrize(
    ("before", "after", "percent"),
    [
        ("cpu 10 0 10 80 0 0 0 0 0 0", "cpu 20 0 20 150 0 0 0 10 0 0", 10.0),
        ("cpu 10 0 10 80 0 0 0 5 0 0", "cpu 10 0 10 80 0 0 0 5 0 0", 0.0),
        ("", "", None),
    ],
)
def test_stolen_time_is_a_share_of_all_time_between(before: str, after: str, percent: float | None) -> None:
    assert steal_percent(before, after) == percent


def test_a_watch_sees_the_host_it_is_on() -> None:
    with HostWatch() as watch:
        pass
    assert watch.seen().timer_late_ms >= 0


def test_the_table_fits_80_columns_and_reasons_stand_below(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    reason = "requests left late: P99 lag 14.2 ms (limit 10.0 ms)" + STALLS.blame(10)
    figures = (-0.101, 0.102, -0.103, 0.104, 1234.56, 99.0, 123.4, 88.0)
    load_tables.print_selfcheck(
        [CheckRow(1000, 32000, *figures, False, reason), CheckRow(50, 1600, *figures, True, "")]
    )
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in lines[:3])
    assert lines[1].split()[-1] == "not"
    assert lines[3].startswith("1000 requests/s: requests left late")
    assert "use another host" in lines[3]
