"""What every LoadTester does: the fake in virtual time; Locust here, and as pods, against the ground-truth server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from controlplane.adapters.loadtester_locust import LoadTesterElsewhere, LocustLoadTester
from controlplane.domain.errors import InvalidInput
from controlplane.domain.report import LoadTestReport, RequestRecord, Validity
from controlplane.domain.slo import LatencyMetric, LatencySlo
from controlplane.host.ports import free_port
from controlplane.ports.load import LoadProgress, LoadTester
from tests.contract.load_pods import HOST, ground_truth, level, load_of_pods
from tests.fakes.kubernetes.cluster import StandIn
from tests.fakes.load_tester import FakeLoadTester, down, steady


@dataclass(frozen=True)
class Subject:
    """A load tester and two targets: one answers after ≥ 20 ms with tokens ≥ 2 ms apart, at the other nobody is."""

    tester: LoadTester
    url: str
    dead: LoadTester
    dead_url: str
    is_real: bool = True


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with ground_truth(tmp_path_factory.mktemp("truth")) as url:
        yield url


@pytest.fixture(scope="module")
def locust() -> Iterator[LocustLoadTester]:
    with LocustLoadTester() as tester:
        yield tester


@pytest.fixture(scope="module")
def pods(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoadTesterElsewhere]:
    """Two generators as pods of a stand-in, whose node goes with them."""
    running = StandIn(tmp_path_factory.mktemp("kubernetes"))
    try:
        with load_of_pods(running, "worker-contract", processes=2) as tester:
            yield tester
    finally:
        running.stop()


@pytest.fixture(params=["fake", "locust"])
def subject(request: pytest.FixtureRequest) -> Subject:
    return made(request, request.param)


@pytest.fixture(params=["fake", "locust", "pods"])
def wherever(request: pytest.FixtureRequest) -> Subject:
    """For what could break on the way to generators elsewhere and back."""
    return made(request, request.param)


def made(request: pytest.FixtureRequest, kind: str) -> Subject:
    if kind == "fake":
        return Subject(FakeLoadTester(steady(20, 2)), "http://fake", FakeLoadTester(down), "http://fake", is_real=False)
    tester: LoadTester = request.getfixturevalue(kind)
    return Subject(tester, request.getfixturevalue("truth"), tester, f"http://{HOST}:{free_port(HOST)}")


def records_of(path: Path) -> list[RequestRecord]:
    return [RequestRecord.model_validate_json(line) for line in path.read_text().splitlines()]


def test_every_request_is_answered_once_and_recorded(wherever: Subject, tmp_path: Path) -> None:
    report, path = wherever.tester.run(level(wherever.url), out_dir=tmp_path)
    assert "generator process broke" not in (report.invalid_reason or "")
    records = records_of(path)
    assert sorted(record.index for record in records) == list(range(len(records)))
    assert report.requests == report.completed == sum(record.scheduled_s >= 0.5 for record in records)
    assert report.errors == 0
    assert all(record.output_tokens == record.wanted_tokens == 8 for record in records)


def test_latencies_count_from_the_scheduled_instant(wherever: Subject, tmp_path: Path) -> None:
    for record in records_of(wherever.tester.run(level(wherever.url), out_dir=tmp_path).records_path):
        assert record.ttft_ms is not None
        assert record.e2e_ms is not None
        assert record.ttft_ms >= 20 + record.lag_ms - 1e-3
        assert record.e2e_ms >= record.ttft_ms


def test_same_request_sends_the_same_schedule(subject: Subject, tmp_path: Path) -> None:
    shapes = []
    for name in ("a", "b"):
        records = records_of(subject.tester.run(level(subject.url, seed=5), out_dir=tmp_path / name).records_path)
        shapes.append(sorted((record.index, record.scheduled_s, record.wanted_tokens) for record in records))
    assert shapes[0] == shapes[1]


def test_limits_are_checked(subject: Subject, tmp_path: Path) -> None:
    slos = (
        LatencySlo(metric=LatencyMetric.TTFT, percentile=50, limit_ms=1),
        LatencySlo(metric=LatencyMetric.TTFT, percentile=50, limit_ms=60_000),
    )
    report = subject.tester.run(level(subject.url, slos=slos), out_dir=tmp_path).report
    assert [check.met for check in report.slo_checks] == [False, True]
    assert report.attainment == 0


def test_watching_sees_progress_and_ends_the_run_early(wherever: Subject, tmp_path: Path) -> None:
    seen: list[LoadProgress] = []

    def watch(progress: LoadProgress) -> str | None:
        seen.append(progress)
        return "seen enough" if len(progress.records) >= 10 else None

    report = wherever.tester.run(level(wherever.url, seconds=600), out_dir=tmp_path, watch=watch).report
    assert report.stopped_early == "seen enough"
    assert report.requests >= 10
    assert report.errors == 0
    assert report.duration_s < 600
    assert all(record.scheduled_s >= 0.5 for record in seen[-1].records)


def test_time_lapse_stretches_what_is_reported(subject: Subject, tmp_path: Path) -> None:
    report = subject.tester.run(level(subject.url, rate=4, seconds=15, time_lapse=10), out_dir=tmp_path).report
    assert report.time_lapse == 10
    assert report.duration_s == 15
    assert report.ttft_ms.count > 0
    if subject.is_real:  # the fake's target answers in emulated time itself
        assert (report.ttft_ms.mean or 0) >= 200


def test_rest_between_levels_changes_nothing(wherever: Subject, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert wherever.tester.run(level(wherever.url), out_dir=tmp_path / name).report.errors == 0
        wherever.tester.rest()
        wherever.tester.rest()


def test_target_that_is_down_gives_a_report_of_errors(subject: Subject, tmp_path: Path) -> None:
    report = subject.dead.run(level(subject.dead_url), out_dir=tmp_path).report
    assert report.errors == report.requests > 0
    assert set(report.error_counts) <= {"connect", "reset"}
    assert report.validity is Validity.VALID or "late" in (report.invalid_reason or "")  # a busy machine may be late


def test_unusable_target_is_refused(subject: Subject, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="ftp"):
        subject.tester.run(level("ftp://somewhere"), out_dir=tmp_path)


def test_report_survives_its_own_json(subject: Subject, tmp_path: Path) -> None:
    report = subject.tester.run(level(subject.url), out_dir=tmp_path).report
    assert LoadTestReport.model_validate_json(report.model_dump_json()) == report
