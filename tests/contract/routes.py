"""A cluster's own gateway for tests of routes: on the stand-in, and on a real server that has the Gateway API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from kubernetes import client

from controlplane.domain.cluster import RouteOptions
from tests.contract.kubernetes_servers import Server
from tests.fakes.kubernetes.data_plane import DataPlane

ROUTE = RouteOptions(gateway="public", hostname="chat.example.com")


@contextmanager
def data_plane(server: Server) -> Iterator[DataPlane]:
    """Serve the gateway that `ROUTE` names. A real server without the Gateway API's definitions is left out."""
    names = [group.name for group in client.ApisApi(server.api).get_api_versions().groups]
    if "gateway.networking.k8s.io" not in names:
        pytest.skip("this API server has no Gateway API")
    plane = DataPlane(server.api, server.namespace, ROUTE.gateway)
    yield plane
    plane.stop()
