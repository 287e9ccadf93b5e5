"""A target is asked what it serves and how fast its time goes; what it says is believed, what it lacks is refused."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from controlplane.cli.load_target import UNNAMED, as_told
from controlplane.cli.tables.load import print_report
from controlplane.domain.enough import samples_needed
from controlplane.domain.errors import InvalidInput
from controlplane.domain.slo import LatencyMetric, LatencySlo
from loadtests.loadtest import LoadTest
from loadtests.send.client.connection import Place, first_answering
from loadtests.send.profiles import Profile, load_profile
from tests.unit.loadtests.test_report import report, table


@contextmanager
def target(body: bytes, lapse: str | None = None) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            if lapse is not None:
                self.send_header("X-Fleetune-Time-Lapse", lapse)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def models(*names: str) -> bytes:
    return json.dumps(
        {"data": [{"id": name, "max_model_len": 100 + place} for place, name in enumerate(names)]}
    ).encode()


def told(url: str, model: str = "", time_lapse: float = 1.0) -> tuple[Profile, LoadTest]:
    test = LoadTest(workload=None, url=url, model=model, rate_rps=1, duration_s=1, time_lapse=time_lapse)
    return as_told(load_profile("chat"), test)


def test_the_only_model_is_taken_with_its_context() -> None:
    with target(models("llama")) as url:
        profile, test = told(url)
    assert (test.model, profile.max_model_len) == ("llama", 100)


def test_one_of_several_has_to_be_named() -> None:
    with target(models("a", "b")) as url:
        with pytest.raises(InvalidInput, match=r"serves 2 models.*--model, one of a, b"):
            told(url)
        profile, test = told(url, "b")
    assert (test.model, profile.max_model_len) == ("b", 101)


@pytest.mark.parametrize("served", [("a",), ("a", "b")])
def test_a_model_that_is_not_served_is_refused_with_those_that_are(served: Sequence[str]) -> None:
    with (
        target(models(*served)) as url,
        pytest.raises(InvalidInput, match=rf"not serve model 'c'.*{', '.join(served)}"),
    ):
        told(url, "c")


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[]", b'{"data": 3}', b'{"data": [3, {"id": 4}]}'])
def test_a_target_that_does_not_tell_is_sent_what_was_asked(body: bytes) -> None:
    with target(body) as url:
        assert told(url)[1].model == UNNAMED
        assert told(url, "mine")[1].model == "mine"


@pytest.mark.parametrize(
    ("said", "lapse"), [("4", 4.0), ("0.5", 0.5), (None, 2.0), ("", 2.0), ("fast", 2.0), ("0", 2.0), ("nan", 2.0)]
)
def test_the_target_s_own_word_on_its_time_counts_before_the_flag(said: str | None, lapse: float) -> None:
    with target(models("m"), said) as url:
        assert told(url, time_lapse=2.0)[1].time_lapse == lapse


def test_of_several_addresses_the_first_that_answers_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as dead, socket.create_server(("127.0.0.1", 0)) as alive:
        places = [Place(socket.AF_INET, each.getsockname()) for each in (dead, alive)]
        dead.close()
        assert first_answering(places) == places[1]
        assert first_answering(places[::-1]) == places[1]
    assert first_answering(places) == places[0]  # none: the run will say so


def test_an_ipv6_listener_is_found_behind_an_ipv4_address_nobody_listens_at() -> None:
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this host has no IPv6")
    with listener:
        port = listener.getsockname()[1]
        places = [Place(socket.AF_INET, ("127.0.0.1", port)), Place(socket.AF_INET6, ("::1", port, 0, 0))]
        assert first_answering(places) == places[1]


@pytest.mark.parametrize("percentile", [50, 90, 95, 99])
def test_a_limit_is_met_only_by_enough_requests(percentile: float, capsys: pytest.CaptureFixture[str]) -> None:
    slo, needed = LatencySlo(metric=LatencyMetric.TTFT, percentile=percentile, limit_ms=100), samples_needed(percentile)
    few, enough = (report(table(n), slos=(slo,)) for n in (needed - 1, needed))
    assert [each.slo_checks[0].is_shown(each.requests) for each in (few, enough)] == [False, True]
    print_report(few)
    assert f"not shown by {needed - 1} requests" in capsys.readouterr().out
    print_report(enough)
    assert ": met" in capsys.readouterr().out


def test_misses_that_are_allowed_still_take_more_requests_to_show_it() -> None:
    check = report(table(1000), slos=(LatencySlo(metric=LatencyMetric.TTFT, percentile=99, limit_ms=100),)).slo_checks[
        0
    ]
    close = check.evolve(miss_ratio=0.009)  # 9 of 1,000, ten are allowed
    assert (close.met, close.is_shown(1000), close.needed(1000) > 1500) == (True, False, True)


def test_a_missed_limit_is_missed_by_however_few() -> None:
    slo = LatencySlo(metric=LatencyMetric.TTFT, percentile=99, limit_ms=10)
    found = report(table(3), slos=(slo,))
    assert not found.slo_checks[0].met
    assert not found.slo_checks[0].is_shown(3)
