"""Controllers and gateways killed with SIGKILL as processes on a cluster, at the boundaries of a rollout."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from controlplane.domain.rollouts.rollout import Rollout, RolloutState
from tests.integration.controller.process_site import ProcessSite, kill
from tests.integration.controller.streams import Streams

pytestmark = pytest.mark.slow
RATE_RPS = 20.0
LONG = 400
"""Tokens of a stream that is still open when a process is killed and another has begun: 8 s at 20 ms each."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ProcessSite]:
    made = ProcessSite(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("boundary", [1, 2, 3])
def test_a_controller_killed_at_a_boundary_is_followed_by_another_that_ends_its_rollout(
    site: ProcessSite, boundary: int
) -> None:
    first, leaders = site.start_controller(), list[str]()
    site.start_gateway("gw-1")
    site.until(lambda: site.is_ready("gw-1"))
    users = Streams(site.url("gw-1"), rate_rps=RATE_RPS)

    def at_boundary(number: int) -> None:
        if number != boundary:
            return
        leaders.append(site.leader)
        kill(first)
        site.end_lease()
        site.start_controller()

    assert_promoted(site, site.roll_out(at_boundary))
    ends = users.stop()
    assert (ends["failed"], ends["cut"]) == (0, 0), ends
    assert ends["whole"] > 0
    assert site.leader not in ("", *leaders)


def test_a_controller_that_waits_beside_the_leader_leads_once_its_lease_is_over(site: ProcessSite) -> None:
    first = site.start_controller()
    site.until(lambda: site.leader != "")
    site.start_gateway("gw-1")
    second, killed = site.start_controller(), site.leader
    site.until(lambda: site.is_ready("gw-1"))
    users = Streams(site.url("gw-1"), rate_rps=RATE_RPS)

    def at_boundary(number: int) -> None:
        if number == 2:
            kill(first)

    assert_promoted(site, site.roll_out(at_boundary))
    ends = users.stop()
    assert (ends["failed"], ends["cut"]) == (0, 0), ends
    assert site.leader not in ("", killed)
    assert second.poll() is None


def test_a_gateway_killed_in_a_rollout_cuts_no_stream_of_another_and_serves_again_with_the_table_of_then(
    site: ProcessSite,
) -> None:
    site.start_controller()
    killed = site.start_gateway("gw-1")
    site.start_gateway("gw-2")
    site.until(lambda: site.is_ready("gw-1") and site.is_ready("gw-2"))
    users, long = Streams(site.url("gw-2"), rate_rps=RATE_RPS), list[LongStream]()

    def at_boundary(number: int) -> None:
        if number == 2:
            long.extend(LongStream(site.url(name)) for name in ("gw-2", "gw-1"))
            kill(killed)
            site.start_gateway("gw-1")
            site.until(lambda: site.is_ready("gw-1"))

    assert_promoted(site, site.roll_out(at_boundary))
    assert [each.is_whole() for each in long] == [True, False]
    ends = users.stop()
    assert (ends["failed"], ends["cut"]) == (0, 0), ends
    assert LongStream(site.url("gw-1")).is_whole()


class LongStream:
    """A user with one long stream. It has begun when this is made."""

    def __init__(self, url: str) -> None:
        self._url, self._text, self._begun = f"{url}/v1/completions", "", threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        assert self._begun.wait(60)

    def is_whole(self) -> bool:
        """Say, once it is over, whether every token and the end came."""
        self._thread.join()
        return self._text.count('"a"') == LONG and self._text.endswith("data: [DONE]\n\n")

    def _read(self) -> None:
        asked = {"model": "llama-8b", "prompt": "a", "max_tokens": LONG, "stream": True}
        try:
            with httpx.stream("POST", self._url, json=asked, timeout=120, trust_env=False, verify=False) as answer:
                for piece in answer.iter_text():
                    self._text += piece
                    self._begun.set()
        except httpx.HTTPError:  # cut
            return


def assert_promoted(site: ProcessSite, rollout: Rollout) -> None:
    """The canary alone is left, with one of everything."""
    assert rollout.state is RolloutState.PROMOTED, rollout
    assert site.store.get_service(site.spec.service).value.stable == rollout.canary
    site.until(lambda: site.left() == {"Deployment": 1, "Service": 1, "PodDisruptionBudget": 1, "Pod": 1})
    (pod,) = [value for _, value in site.cluster.objects.everything() if value["kind"] == "Pod"]
    assert pod["metadata"]["labels"]["fleetune.dev/revision"] == rollout.canary
