"""Whatever the duties of a controller look at, its process watches each kind of object of the cluster once."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from controlplane.cli.installation.processes import duties
from controlplane.domain.errors import FleetuneError
from controlplane.settings import ClusterAccess, Settings
from controlplane.wiring import control
from controlplane.wiring.shared import Shared
from controlplane.worker import Bell
from tests.fakes.kubernetes.cluster import StandIn
from tests.threads import watchers


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[StandIn]:
    running = StandIn(tmp_path)
    yield running
    running.stop()


def settings_of(cluster: StandIn, folder: Path) -> Settings:
    access = ClusterAccess(namespace="default", kubeconfig=cluster.kubeconfig(), gateways=True)
    return Settings(data_dir=folder, cluster=access)


def watched(cluster: StandIn) -> Counter[str]:
    """Return how often each kind of object was watched."""
    return Counter(call.resource for call in cluster.faults.calls if call.verb == "watch")


def test_all_duties_of_a_controller_share_one_set_of_watches(cluster: StandIn, tmp_path: Path) -> None:
    settings, stop, bell = settings_of(cluster, tmp_path), threading.Event(), Bell()
    before = watchers()
    with closing(Shared(settings)) as shared:
        records = control.record_feed(settings)
        every = [each.one_pass for each in duties(settings, shared, records, stop, bell, leader=None)]
        for one_pass in [control.controller_pass(settings, shared, records), *every]:
            with suppress(FleetuneError):  # no gateway runs, nothing is served
                one_pass()
        names = sorted(each.name for each in watchers() - before)
        assert names == ["watch deployments", "watch nodes", "watch pods", "watch pods"]  # engines, gateways
    assert watched(cluster) <= Counter({"deployments": 1, "nodes": 1, "pods": 2})
    assert not watchers() - before
