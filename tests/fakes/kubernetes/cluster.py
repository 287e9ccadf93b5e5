"""A whole stand-in: API server, controllers, scheduler, and nodes as they are added."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml
from kubernetes import client

from tests.fakes.kubernetes.controllers import Controllers
from tests.fakes.kubernetes.errors import ApiError
from tests.fakes.kubernetes.faults import Faults
from tests.fakes.kubernetes.garbage import GarbageCollector
from tests.fakes.kubernetes.kubelet import Kubelet
from tests.fakes.kubernetes.objects import Objects
from tests.fakes.kubernetes.pod_life import STUB
from tests.fakes.kubernetes.schemas import Object, resource_of
from tests.fakes.kubernetes.server import ApiServer
from tests.fakes.kubernetes.writes import Writer
from tests.integration.loadtests.tls import Authority

_NODE = resource_of("v1", "Node")
_POD = resource_of("v1", "Pod")
_NAMESPACE = resource_of("v1", "Namespace")
_UNREACHABLE = "node.kubernetes.io/unreachable"
_STATUS = Writer(manager="kube-controller-manager", subresource="status")


class StandIn:
    """Runs until `stop`. Namespace `default` is there; nodes are added with `add_node`.

    With `tls` it speaks https, by a certificate of that authority. Controllers look `lag_s` after a change.
    """

    def __init__(
        self, folder: Path, *, history: int = 20_000, tls: Authority | None = None, lag_s: float = 0.0
    ) -> None:
        self.folder, self._tls = folder, tls
        self.objects, self.faults = Objects(history=history), Faults()
        self.nodes: dict[str, Kubelet] = {}
        self.server = ApiServer(self.objects, self.faults, logs=self._log, tls=None if tls is None else tls.server)
        self._controllers = Controllers(self.objects, lag_s=lag_s)
        self.add_namespace("default")

    @property
    def url(self) -> str:
        return self.server.url

    def kubeconfig(self, namespace: str = "default") -> Path:
        """Write a kubeconfig and return its path."""
        path = self.folder / f"kubeconfig-{namespace}"
        path.write_text(_kubeconfig(self.url, namespace, self._tls))
        return path

    def api(self) -> client.ApiClient:
        """Return a client of its own."""
        settings = client.Configuration(host=self.url)
        settings.ssl_ca_cert = None if self._tls is None else str(self._tls.ca_file)
        return client.ApiClient(settings)

    def add_namespace(self, name: str) -> None:
        value = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        self.objects.create(_NAMESPACE, "", value)

    def add_node(
        self,
        name: str,
        *,
        gpus: int,
        labels: dict[str, str] | None = None,
        pace: float = 20.0,
        engine: Sequence[str] = STUB,
    ) -> Kubelet:
        self.nodes[name] = Kubelet(
            self.api(), self.folder, name=name, gpus=gpus, labels=labels, pace=pace, engine=engine
        )
        return self.nodes[name]

    def lose_node(self, name: str) -> None:
        """Let a node vanish; the controller manager notices at once here, instead of after 40 s."""
        self.nodes[name].lose()
        unknown = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}
        self.objects.change(_NODE, "", name, lambda v: _with_condition(v, unknown), _STATUS)
        self.objects.change(_NODE, "", name, _unreachable, Writer(manager="kube-controller-manager"))
        not_ready = {"type": "Ready", "status": "False", "reason": "NodeNotReady"}
        for pod in self.objects.list(_POD):
            if pod["spec"].get("nodeName") == name:
                metadata = pod["metadata"]
                self.objects.change(
                    _POD, metadata["namespace"], metadata["name"], lambda v: _with_condition(v, not_ready), _STATUS
                )
                if _is_soon_gone(pod):
                    self.objects.delete(_POD, metadata["namespace"], metadata["name"], grace_s=1)

    def remove_node(self, name: str) -> None:
        """Let a node vanish and its object be deleted, as a cloud does; its pods are collected."""
        self.nodes[name].lose()
        self.objects.delete(_NODE, "", name)

    def change_node(self, name: str, change: Callable[[Object], Object]) -> None:
        """Write a node as somebody with kubectl would."""
        self.objects.change(_NODE, "", name, change, Writer(manager="kubectl"))

    @property
    def garbage(self) -> GarbageCollector:
        return self._controllers.garbage

    def outage(self, seconds: float) -> None:
        """Answer nobody for a while; running watches end."""
        self.server.is_out = True
        time.sleep(seconds)
        self.server.is_out = False

    def stop(self) -> None:
        for node in self.nodes.values():
            node.stop()
        self._controllers.stop()
        self.server.stop()

    def _log(self, pod: Object, previous: bool) -> str:
        node = self.nodes.get(pod["spec"].get("nodeName", ""))
        if node is None or node.is_lost:
            raise ApiError(500, "the node does not answer")
        return node.log(pod["metadata"]["name"], previous=previous)


def _is_soon_gone(pod: Object) -> bool:
    """Say whether a pod bears a lost node for no time at all: it is taken away at once."""
    bears = pod["spec"].get("tolerations", [])
    return any(e.get("key") == _UNREACHABLE and e.get("tolerationSeconds") == 0 for e in bears)


def _unreachable(node: Object) -> Object:
    """Return a node that takes no new pods."""
    taint = {"key": _UNREACHABLE, "effect": "NoSchedule"}
    return {**node, "spec": {**node["spec"], "taints": [*node["spec"].get("taints", []), taint]}}


def _with_condition(value: Object, condition: Object) -> Object:
    status = value.get("status", {})
    others = [each for each in status.get("conditions", []) if each["type"] != condition["type"]]
    return {**value, "status": {**status, "conditions": [*others, condition]}}


def _kubeconfig(url: str, namespace: str, tls: Authority | None) -> str:
    trusted = {} if tls is None else {"certificate-authority": str(tls.ca_file)}
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "stand-in",
            "clusters": [{"name": "stand-in", "cluster": {"server": url, **trusted}}],
            "users": [{"name": "fleetune", "user": {"token": base64.b64encode(b"no secret").decode()}}],
            "contexts": [
                {"name": "stand-in", "context": {"cluster": "stand-in", "user": "fleetune", "namespace": namespace}}
            ],
        }
    )
