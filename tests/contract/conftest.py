"""The stores of the contract (the fake, SQLite, a real PostgreSQL), and the API servers of Kubernetes."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from controlplane.adapters.store_sql.store import open_store
from controlplane.ports.store import Store
from tests.contract.kubernetes_servers import KINDS, STAND_IN, Server, real_pods_run
from tests.fakes.kubernetes.cluster import StandIn
from tests.fakes.store import FakeStore
from tests.postgres import PostgresCluster, postgres_cluster, postgres_programs

_OF_HELM = ["test_helm_release.py", "test_kubernetes_examples.py"]  # its wheel is of x86 Linux only
collect_ignore = [] if find_spec("helm_python") else _OF_HELM


@pytest.fixture(scope="session")
def cluster() -> Iterator[PostgresCluster]:
    programs = postgres_programs()
    if programs is None:
        pytest.fail("PostgreSQL is not installed: sh deploy/system-packages.sh postgresql")
    with postgres_cluster(programs) as running:
        yield running


@pytest.fixture(params=["fake", "sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "fake":
        yield FakeStore()
        return
    opened = open_store(_new_url(request, tmp_path))
    yield opened
    opened.close()


def _new_url(request: pytest.FixtureRequest, folder: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{folder}/store.db"
    cluster: PostgresCluster = request.getfixturevalue("cluster")
    return cluster.new_database()


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    running = StandIn(tmp_path_factory.mktemp("kubernetes"))
    yield running
    running.stop()


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Server:
    """A namespace of its own on each API server there is."""
    return open_server(request, request.param, tmp_path)


def open_server(request: pytest.FixtureRequest, kind: str, folder: Path) -> Server:
    """Return a namespace of its own on one kind of API server; it is gone with the test."""
    running = request.getfixturevalue("stand_in") if kind == STAND_IN else None
    has_engines = running is not None or real_pods_run()
    if not has_engines and request.node.get_closest_marker("engines"):
        pytest.skip("no engine runs in a pod here: fake kubelets answer for every node of this API server")
    made = Server(folder, stand_in=running, has_engines=has_engines)
    request.addfinalizer(made.close)
    return made
