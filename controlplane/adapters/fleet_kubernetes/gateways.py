"""The gateways of an installation whose gateways are pods: found by their label, told apart by the pod's name.

Every pod that runs is found, ready or not: a new one becomes ready by the table it is given. One that is being deleted
is left out: it takes no new request.
"""

from __future__ import annotations

from collections.abc import Sequence

from controlplane.adapters.fleet_kubernetes.door import Door, Json, Place
from controlplane.adapters.fleet_kubernetes.watched import Watched, end, end_with
from controlplane.domain.door.routing import GatewayAddress

SELECTOR = "app.kubernetes.io/part-of=fleetune,app.kubernetes.io/component=gateway"
PORT, ADMIN_PORT = "http", "admin"
"""Names of a gateway's ports in its pod."""
ADMIN_SCHEME = "fleetune.dev/admin-scheme"
"""Annotation of a pod whose admin port speaks `https`: while pods are replaced, both kinds are there."""


class GatewayPods:
    """Holds one watch from its first look on, until `close`."""

    def __init__(self, door: Door, namespace: str) -> None:
        self._pods = Watched(door, Place("api/v1", "pods", namespace), selector=SELECTOR)
        end_with(self, self._pods)

    def find(self) -> Sequence[GatewayAddress]:
        """Return where each running gateway listens, by name. Raises Unavailable when that is not known any more."""
        found = [address for pod in self._pods.items() if (address := _address(pod)) is not None]
        return sorted(found, key=lambda each: each.name)

    def close(self) -> None:
        end(self._pods)


def _address(pod: Json) -> GatewayAddress | None:
    metadata, status = pod["metadata"], pod.get("status", {})
    if metadata.get("deletionTimestamp") or status.get("phase") != "Running" or not status.get("podIP"):
        return None
    ports = {port.get("name"): port["containerPort"] for each in _containers(pod) for port in each.get("ports", [])}
    if not {PORT, ADMIN_PORT} <= ports.keys():
        return None
    host = f"[{status['podIP']}]" if ":" in status["podIP"] else status["podIP"]
    scheme = (metadata.get("annotations") or {}).get(ADMIN_SCHEME, "http")
    admin_url = f"{scheme}://{host}:{ports[ADMIN_PORT]}"
    return GatewayAddress(name=metadata["name"], url=f"http://{host}:{ports[PORT]}", admin_url=admin_url)


def _containers(pod: Json) -> Sequence[Json]:
    found: Sequence[Json] = pod["spec"]["containers"]
    return found
