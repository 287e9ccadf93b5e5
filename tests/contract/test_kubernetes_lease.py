"""Leadership by a Lease, on the stand-in and on a real server; clocks are the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from kubernetes import client

from controlplane.adapters.fleet_kubernetes.door import open_door
from controlplane.adapters.fleet_kubernetes.lease import LeaseElection
from controlplane.domain.leadership import Move
from tests.contract.kubernetes_servers import Server
from tests.fakes.kubernetes.cluster import StandIn

NAME = "fleetune-controller"


class Election:
    """One candidate with a clock that the test turns."""

    def __init__(self, server: Server, identity: str) -> None:
        self.now_s = 0.0
        self.ends: list[str] = []
        self.lease = LeaseElection(
            open_door(server.kubeconfig()),
            namespace=server.namespace,
            name=NAME,
            identity=identity,
            on_end=self.ends.append,
            steady=lambda: self.now_s,
            # At full seconds there is no fraction: it is written nevertheless.
            wall=lambda: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.now_s),
        )

    def at(self, now_s: float) -> Move:
        self.now_s = now_s
        return self.lease.step()

    @property
    def leads(self) -> bool:
        return self.lease.wait(0)


def held_by(server: Server) -> tuple[str | None, int | None]:
    found = client.CoordinationV1Api(server.api).read_namespaced_lease(NAME, server.namespace).spec
    assert found is not None
    return found.holder_identity, found.lease_transitions


def test_the_first_leads_and_the_second_waits_until_it_gives_back(server: Server) -> None:
    first, second = Election(server, "a"), Election(server, "b")
    assert (first.at(0), second.at(0)) == (Move.TAKE, Move.WAIT)
    assert (first.leads, second.leads) == (True, False)
    assert first.at(2) is Move.RENEW
    first.lease.stop()
    assert (second.at(4), first.leads, second.leads) == (Move.TAKE, False, True)
    assert held_by(server) == ("b", 1)
    assert first.ends == []


def test_a_leader_that_stood_still_too_long_ends_and_another_has_taken_over(server: Server) -> None:
    first, second = Election(server, "a"), Election(server, "b")
    first.at(0)
    assert [second.at(now_s) for now_s in (0, 14.9)] == [Move.WAIT, Move.WAIT]
    assert second.at(15) is Move.TAKE
    assert first.at(16) is Move.END
    assert (first.leads, len(first.ends)) == (False, 1)
    assert first.at(18) is Move.END
    assert len(first.ends) == 1


def test_a_leader_that_sees_another_s_name_ends(server: Server) -> None:
    first, second = Election(server, "a"), Election(server, "b")
    first.at(0)
    second.at(0)
    second.at(15)
    assert first.at(5) is Move.END
    assert first.ends == ["another controller leads"]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Server]:
    running = StandIn(tmp_path)
    yield Server(tmp_path, stand_in=running)
    running.stop()


def test_a_leader_without_its_server_goes_on_for_ten_seconds_and_ends(own: Server) -> None:
    first = Election(own, "a")
    first.at(0)
    assert own.stand_in is not None
    own.stand_in.server.is_out = True
    assert [first.at(now_s) for now_s in (2, 9.9)] == [Move.RENEW, Move.RENEW]
    assert first.leads
    assert first.at(10) is Move.END
    assert "does not answer" in first.ends[0]


def test_an_outage_shorter_than_that_changes_no_leader(own: Server) -> None:
    first, second = Election(own, "a"), Election(own, "b")
    first.at(0)
    second.at(0)
    assert own.stand_in is not None
    own.stand_in.server.is_out = True
    first.at(8)
    second.at(8)
    own.stand_in.server.is_out = False
    assert (first.at(9), second.at(15)) == (Move.RENEW, Move.WAIT)


def test_of_two_that_take_at_once_one_does(own: Server) -> None:
    first, second = Election(own, "a"), Election(own, "b")
    moves = (first.at(0), second.at(0))
    assert (first.leads, second.leads) == (True, False), moves
