"""Top-up: what others leave to a total rate is sent, no more."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from controlplane.domain.base import ServiceName
from controlplane.domain.workload import Lengths, SyntheticWorkload
from controlplane.ports.load import LoadRequest, LoadResult, Watch
from controlplane.services.replays.top_up import OtherTraffic, hold_rate, top_up_rate
from tests.builders_serving import NOW
from tests.fakes.load_tester import FakeLoadTester, steady
from tests.fakes.record_source import FakeRecordSource
from tests.unit.domain.test_live import a_record

SLICE_S, WINDOW_S = 10.0, 60.0
WORKLOAD = SyntheticWorkload(prompt_tokens=Lengths(mean=50), output_tokens=Lengths(mean=8))
REQUEST = LoadRequest(workload=WORKLOAD, rate_rps=20, url="http://gateway", model="m", duration_s=SLICE_S)


class Site:
    """A gateway in virtual time: it records what others send at a steady rate, and what we send through it."""

    def __init__(self, *, others_rps: float) -> None:
        self.now = NOW
        self.others_rps = others_rps
        self.source = FakeRecordSource()
        self.tester = FakeLoadTester(steady(50, 10))
        self.others = OtherTraffic(self.source, ServiceName("chat"), clock=lambda: self.now, window_s=WINDOW_S)
        self.rates: list[float] = []
        for _ in range(int(WINDOW_S / SLICE_S)):
            self.pass_time(SLICE_S)

    def rest(self) -> None:
        self.tester.rest()

    def run(self, request: LoadRequest, *, out_dir: Path, watch: Watch | None = None) -> LoadResult:
        result = self.tester.run(request, out_dir=out_dir, watch=watch)
        self._record(result.report.requests)
        self.rates.append(request.rate_rps)
        self.pass_time(SLICE_S)
        return result

    def pass_time(self, seconds: float) -> None:
        self._record(round(self.others_rps * seconds))
        self.now += timedelta(seconds=seconds)

    def hold(self, target_rps: float, out_dir: Path, *, slices: int) -> int:
        left = iter(range(slices))
        return hold_rate(
            self,
            self.others,
            target_rps=target_rps,
            request=REQUEST,
            slice_s=SLICE_S,
            out_dir=out_dir,
            over=lambda: next(left, None) is None,
            pause=self.pass_time,
        )

    def _record(self, requests: int) -> None:
        at = self.now + timedelta(seconds=SLICE_S / 2)
        self.source.add(*(a_record().evolve(at=at, id=f"{at}{n}") for n in range(requests)))


def test_what_others_leave_is_sent_though_our_own_requests_are_in_the_records_too(tmp_path: Path) -> None:
    site = Site(others_rps=2)
    sent = site.hold(10, tmp_path, slices=8)
    assert site.rates == pytest.approx([8.0] * 8)
    assert sent == pytest.approx(8 * 8 * SLICE_S, rel=0.2)


def test_nothing_is_sent_while_others_send_enough(tmp_path: Path) -> None:
    site = Site(others_rps=12)
    assert site.hold(10, tmp_path, slices=3) == 0
    assert site.rates == []
    assert top_up_rate(10, 12) == 0


def test_every_slice_has_arrivals_of_its_own(tmp_path: Path) -> None:
    site = Site(others_rps=0)
    site.hold(5, tmp_path, slices=3)
    assert len({request.seed for request in site.tester.requests}) == 3


def test_emulated_time_counts(tmp_path: Path) -> None:
    site = Site(others_rps=8)
    clock = OtherTraffic(site.source, ServiceName("chat"), clock=lambda: site.now, window_s=WINDOW_S, time_lapse=4)
    assert clock.rate_rps() == pytest.approx(2)
