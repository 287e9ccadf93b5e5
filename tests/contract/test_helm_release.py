"""A release of the chart on a server, by helm's own library: installed, changed, taken back, removed.

Jobs of hooks are said to be done by the stand-in and do not run. Helm keeps the release in memory: its Secrets are
protobuf, which the stand-in does not speak.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python
import pytest

from tests.contract.kubernetes_servers import Server
from tests.fakes.kubernetes.cluster import StandIn
from tests.unit.deploy.charts import CHART, EXAMPLES, values_of

EKS = next(example for example in EXAMPLES if example.stem == "eks")
HOOKED = {"fleetune-prepare", "fleetune-uninstall"}


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Server]:
    running = StandIn(tmp_path)
    yield Server(tmp_path, stand_in=running)
    running.stop()


@pytest.fixture
def helm(own: Server) -> Iterator[helm_python.Config]:
    path = own.kubeconfig()
    with helm_python.Config(kubeconfig_path=path, namespace=own.namespace, storage_driver="memory") as opened:
        yield opened


def there(server: Server) -> set[tuple[str, str]]:
    """Return kind and name of all that a release made."""
    assert server.stand_in is not None
    found = [value for _, value in server.stand_in.objects.everything()]
    mine = [each for each in found if each["metadata"].get("labels", {}).get("app.kubernetes.io/managed-by") == "Helm"]
    return {(each["kind"], each["metadata"]["name"]) for each in mine}


def gateways(server: Server) -> int | None:
    found = server.apps.read_namespaced_deployment("fleetune-gateway", server.namespace)
    assert found.spec is not None
    return found.spec.replicas


def secret(server: Server) -> Any:
    return server.core.read_namespaced_secret("fleetune-secrets", server.namespace).data


def test_a_release_is_installed_changed_taken_back_and_removed(own: Server, helm: helm_python.Config) -> None:
    values = values_of(EKS) | {"gateway": {"replicas": 2}}
    helm.install(CHART, "fleetune", values, timeout=240)
    first, keys = there(own), secret(own)
    assert {("Deployment", f"fleetune-{name}") for name in ("api", "controller", "worker", "gateway")} <= first
    assert not any(name in HOOKED for _, name in first)
    helm.upgrade(CHART, "fleetune", values | {"gateway": {"replicas": 5}}, timeout=240)
    assert gateways(own) == 5
    assert secret(own) == keys  # gateways and controller go on trusting each other
    helm.rollback("fleetune", timeout=240)
    assert gateways(own) == 2
    assert there(own) == first
    helm.uninstall("fleetune", timeout=240)
    assert there(own) == set()
