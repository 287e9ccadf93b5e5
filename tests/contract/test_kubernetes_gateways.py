"""Gateways that are pods are found where they run, on the stand-in and on a real server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from kubernetes import client

from controlplane.adapters.fleet_kubernetes.door import open_door
from controlplane.adapters.fleet_kubernetes.gateways import ADMIN_SCHEME, GatewayPods
from tests.contract.fleet_on_cluster import IMAGE
from tests.contract.kubernetes_servers import Server, wait

LABELS = {"app.kubernetes.io/part-of": "fleetune", "app.kubernetes.io/component": "gateway"}


@pytest.fixture
def gateways(server: Server) -> Iterator[GatewayPods]:
    server.add_node(gpus=0)
    found = GatewayPods(open_door(server.kubeconfig()), server.namespace)
    yield found
    found.close()


def run(server: Server, name: str, labels: dict[str, str], *ports: str, notes: dict[str, str] | None = None) -> None:
    """Run a pod of the stub on the test's node."""
    given = [{"name": port, "containerPort": 8000 + number} for number, port in enumerate(ports)]
    container = {"name": "it", "image": IMAGE, "command": ["vllm", "serve", "m", "--host", "0.0.0.0", "--port", "8000"]}
    spec = {
        "containers": [container | {"ports": given}],
        "nodeSelector": {"fleetune.dev/test": server.namespace},
        "tolerations": [{"operator": "Exists"}],
    }
    metadata = {"name": name, "labels": labels, "annotations": notes or {}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    server.core.create_namespaced_pod(server.namespace, client.V1Pod.model_validate(pod))


def names(gateways: GatewayPods) -> Sequence[str]:
    return [each.name for each in gateways.find()]


def test_each_gateway_that_runs_is_found_ready_or_not_until_it_is_deleted(
    server: Server, gateways: GatewayPods
) -> None:
    run(server, "gw-b", LABELS, "http", "admin")
    run(server, "gw-a", LABELS, "http", "admin")
    run(server, "other", {"app.kubernetes.io/part-of": "fleetune"}, "http", "admin")
    wait(lambda: names(gateways) == ["gw-a", "gw-b"])
    address = gateways.find()[0]
    pod = server.core.read_namespaced_pod("gw-a", server.namespace)
    assert pod.status is not None
    assert (address.url, address.admin_url) == (
        f"http://{pod.status.pod_ip}:8000",
        f"http://{pod.status.pod_ip}:8001",
    )
    server.core.delete_namespaced_pod("gw-a", server.namespace)
    wait(lambda: names(gateways) == ["gw-b"])


def test_an_admin_port_that_speaks_tls_is_asked_so_beside_one_that_does_not_yet(
    server: Server, gateways: GatewayPods
) -> None:
    run(server, "gw-new", LABELS, "http", "admin", notes={ADMIN_SCHEME: "https"})
    run(server, "gw-old", LABELS, "http", "admin")
    wait(lambda: names(gateways) == ["gw-new", "gw-old"])
    assert [each.admin_url.partition(":")[0] for each in gateways.find()] == ["https", "http"]
