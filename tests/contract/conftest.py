"""The stores of the contract: the fake, SQLite, and a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.adapters.store_sql import open_store
from controlplane.ports import Store
from tests.fakes.store import FakeStore
from tests.postgres import PostgresCluster, postgres_cluster, postgres_programs


@pytest.fixture(scope="module")
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
