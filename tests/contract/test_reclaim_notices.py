"""What everything that gives notices of reclaim does: the fake, a folder of this host, and the nodes of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import pytest

from controlplane.adapters.fleet_kubernetes.door import open_door
from controlplane.adapters.fleet_kubernetes.reclaims import NOTICE_S, NodeNotices
from controlplane.adapters.fleet_kubernetes.view import ClusterView
from controlplane.adapters.reclaims.files import ReclaimFolder
from controlplane.domain.engines.fleet import Engine, EngineState
from controlplane.domain.operations.spot import Notice
from controlplane.ports.reclaims import ReclaimNotices
from tests.contract.conftest import open_server
from tests.contract.fleet_subjects import a_spec
from tests.contract.kubernetes_servers import KINDS, Server, wait
from tests.fakes.kubernetes.schemas import Object
from tests.fakes.reclaims import FakeNotices

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
TAINT = "aws-node-termination-handler/spot-itn"


class Subject(Protocol):
    """Notices, and the outside world that takes place 0 or 1 back."""

    @property
    def notices(self) -> ReclaimNotices: ...
    def engine(self, place: int) -> Engine: ...
    def take_back(self, place: int) -> None: ...
    def leave(self, place: int) -> None: ...
    def wait(self, done: Callable[[], bool]) -> None: ...
    def close(self) -> None: ...


class OnGpus:
    """Engines on GPUs of one host."""

    def engine(self, place: int) -> Engine:
        return Engine(spec=a_spec(), state=EngineState.READY, gpu_indices=(place,), started_at=NOW)

    def wait(self, done: Callable[[], bool]) -> None:
        assert done()

    def close(self) -> None:
        pass


class FakeSubject(OnGpus):
    def __init__(self) -> None:
        self.notices = FakeNotices()

    def take_back(self, place: int) -> None:
        self.notices.given.append(Notice(gpus=frozenset({place}), why="it is taken back"))

    def leave(self, place: int) -> None:
        self.notices.given = [each for each in self.notices.given if each.gpus != frozenset({place})]


class FolderSubject(OnGpus):
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.notices = ReclaimFolder(folder, gpus=(0, 1), clock=lambda: NOW)

    def take_back(self, place: int) -> None:
        self._folder.mkdir(exist_ok=True)
        (self._folder / f"gpu-{place}").touch()

    def leave(self, place: int) -> None:
        (self._folder / f"gpu-{place}").unlink()


class NodeSubject:
    """Nodes of a cluster; a taint is written as a termination handler does."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._names = [server.add_node(gpus=1).name for _ in range(2)]
        self._view = ClusterView(open_door(server.kubeconfig()), server.namespace)
        self.notices = NodeNotices(self._view.nodes, clock=lambda: NOW)
        self.wait = wait

    def engine(self, place: int) -> Engine:
        return Engine(spec=a_spec(), state=EngineState.READY, node=self._names[place], started_at=NOW)

    def take_back(self, place: int) -> None:
        self._write(place, [{"key": TAINT, "effect": "NoSchedule"}])

    def leave(self, place: int) -> None:
        self._write(place, [])

    def close(self) -> None:
        self._view.close()

    def _write(self, place: int, taints: list[Object]) -> None:
        kind = "application/merge-patch+json"
        self._server.core.patch_node(self._names[place], {"spec": {"taints": taints}}, _content_type=kind)


@pytest.fixture(params=["fake", "folder", *KINDS])
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    made: Subject
    match request.param:
        case "fake":
            made = FakeSubject()
        case "folder":
            made = FolderSubject(tmp_path / "reclaims")
        case kind:
            made = NodeSubject(open_server(request, kind, tmp_path))
    yield made
    made.close()


def taken(subject: Subject) -> list[bool]:
    found = subject.notices.notices()
    return [any(each.takes(subject.engine(place)) for each in found) for place in (0, 1)]


def test_nothing_is_taken_back_until_somebody_says_so(subject: Subject) -> None:
    assert taken(subject) == [False, False]


def test_a_notice_is_about_its_own_place_and_stands_until_it_is_taken_away(subject: Subject) -> None:
    subject.take_back(1)
    subject.wait(lambda: taken(subject) == [False, True])
    assert [bool(each.why) for each in subject.notices.notices()] == [True]
    subject.take_back(0)
    subject.wait(lambda: taken(subject) == [True, True])
    subject.leave(1)
    subject.wait(lambda: taken(subject) == [True, False])


def test_every_known_taint_gives_as_long_as_its_cloud_does() -> None:
    assert set(NOTICE_S.values()) <= {30.0, 120.0}
