"""Targets behind TLS: streams as without it, and strangers refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from controlplane.domain.errors import InvalidInput
from controlplane.domain.workload import ArrivalProcess, Arrivals, Lengths, SyntheticWorkload
from loadtests.loadtest import LoadTest, run_load_test
from loadtests.send.plan import Timeouts
from loadtests.send.runner import Generator
from tests.integration.loadtests import faulty
from tests.integration.loadtests.tls import Authority, new_authority

TEST = LoadTest(
    workload=SyntheticWorkload(
        prompt_tokens=Lengths(mean=20),
        output_tokens=Lengths(mean=3),
        arrivals=Arrivals(process=ArrivalProcess.CONSTANT),
    ),
    rate_rps=30.0,
    url="",
    model="m",
    duration_s=1.0,
    timeouts=Timeouts(connect_s=5, first_token_s=5, stall_s=5, total_s=9),
)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return new_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def generator() -> Iterator[Generator]:
    with Generator() as running:
        yield running


def test_streams_of_a_trusted_target_are_measured(generator: Generator, authority: Authority, tmp_path: Path) -> None:
    with faulty.faulty_server(faulty.drip, authority.server) as url:
        test = replace(TEST, url=url, ca_file=str(authority.ca_file))
        report = run_load_test(test, generator, out_dir=tmp_path).report
    assert (report.requests, report.completed, report.error_counts) == (30, 30, {})
    assert report.itl_ms.count == 60
    assert report.ttft_ms.mean is not None
    assert report.e2e_ms.mean is not None
    assert 0 < report.ttft_ms.mean < report.e2e_ms.mean


def test_a_target_of_an_unknown_authority_gets_no_request(
    generator: Generator, authority: Authority, tmp_path: Path
) -> None:
    with faulty.faulty_server(faulty.good, authority.server) as url:
        report = run_load_test(replace(TEST, url=url), generator, out_dir=tmp_path).report
    assert (report.completed, report.error_counts) == (0, {"tls": 30})


def test_tls_stream_cut_within_a_token_is_truncated(generator: Generator, authority: Authority, tmp_path: Path) -> None:
    with faulty.faulty_server(faulty.cut, authority.server) as url:
        test = replace(TEST, url=url, ca_file=str(authority.ca_file))
        assert run_load_test(test, generator, out_dir=tmp_path).report.error_counts == {"truncated": 30}


def test_plain_http_behind_an_https_url_fails_every_request(generator: Generator, tmp_path: Path) -> None:
    with faulty.faulty_server(faulty.good) as url:
        test = replace(TEST, url=url.replace("http", "https"))
        report = run_load_test(test, generator, out_dir=tmp_path).report
    assert report.completed == 0
    assert sum(report.error_counts.values()) == report.requests == 30


def test_unusable_ca_files_are_bad_input(generator: Generator, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("nothing\n")
    for name, url in (("none.pem", "https://h"), ("empty.pem", "https://h"), ("empty.pem", "http://h")):
        with pytest.raises(InvalidInput, match="CA file"):
            run_load_test(replace(TEST, url=url, ca_file=str(tmp_path / name)), generator, out_dir=tmp_path / "run")
