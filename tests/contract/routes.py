"""A cluster's own gateway for tests of routes: on the stand-in, and on a real server that has the Gateway API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from kubernetes import client

from controlplane.adapters.fleet_kubernetes.route import OF_SERVICE
from controlplane.domain.cluster import RouteOptions
from tests.contract.kubernetes_servers import Server
from tests.fakes.kubernetes.data_plane import DataPlane

ROUTE = RouteOptions(gateway="public", hostname="chat.example.com")


def an_endpoint_slice(service: str, *, ready: bool = True) -> client.V1EndpointSlice:
    """What the cluster says of a Service with one pod behind it. No pod is there: nothing is sent."""
    conditions = client.V1EndpointConditions(ready=ready, serving=ready, terminating=False)
    return client.V1EndpointSlice(
        api_version="discovery.k8s.io/v1",
        kind="EndpointSlice",
        metadata=client.V1ObjectMeta(name=service, labels={OF_SERVICE: service}),
        address_type="IPv4",
        endpoints=[client.V1Endpoint(addresses=["192.0.2.1"], conditions=conditions)],
        ports=[client.DiscoveryV1EndpointPort(port=8000)],
    )


@contextmanager
def endpoints_told(server: Server, *services: str) -> Iterator[None]:
    """Say for a cluster that its Services answer, whose pods lie on loopback: no server takes such an endpoint."""
    for service in services:
        server.discovery.create_namespaced_endpoint_slice(server.namespace, an_endpoint_slice(service))
    yield
    for service in services:
        server.discovery.delete_namespaced_endpoint_slice(service, server.namespace)


def require_group(server: Server, group: str) -> None:
    """Leave a test out on a real server that does not have an add-on's definitions."""
    if group not in [each.name for each in client.ApisApi(server.api).get_api_versions().groups]:
        pytest.skip(f"this API server has no {group}")


@contextmanager
def data_plane(server: Server) -> Iterator[DataPlane]:
    """Serve the gateway that `ROUTE` names. A real server without the Gateway API's definitions is left out."""
    require_group(server, "gateway.networking.k8s.io")
    plane = DataPlane(server.api, server.namespace, ROUTE.gateway)
    yield plane
    plane.stop()
