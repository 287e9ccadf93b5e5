"""The API servers that suites run on: the stand-in, and the one that FLEETUNE_TEST_KUBECONFIG names, when it is set.

On a real server every test has a namespace and a node of its own, whose kubelet is that of the stand-in: it needs the
rights of an administrator, a controller manager and a scheduler, and leaves nothing behind. Where somebody else's fake
kubelets let the pods of every node be ready, ours leaves pods to them; tests marked `engines` are skipped then.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from tests.fakes.kubernetes.cluster import StandIn
from tests.fakes.kubernetes.kubelet import Kubelet
from tests.fakes.kubernetes.schemas import Object

VARIABLE = "FLEETUNE_TEST_KUBECONFIG"
STAND_IN, REAL = "stand-in", "real-server"
KINDS = [STAND_IN] + ([REAL] if os.environ.get(VARIABLE) else [])
PATIENCE_S = 240.0
_LOOK_S = 20.0


class Server:
    """One namespace of an API server. `stand_in` is None on a real one; `has_engines`: whether pods really run."""

    def __init__(self, folder: Path, *, stand_in: StandIn | None, has_engines: bool = True) -> None:
        self.stand_in, self._folder, self.has_engines = stand_in, folder, has_engines
        self.namespace = f"fleetune-test-{uuid.uuid4().hex[:8]}"
        self._nodes: list[Kubelet] = []
        self.api = self._client()
        self.core, self.apps = client.CoreV1Api(self.api), client.AppsV1Api(self.api)
        self.discovery = client.DiscoveryV1Api(self.api)
        self.core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=self.namespace)))
        wait(lambda: is_furnished(self.core, self.namespace))

    def kubeconfig(self) -> Path:
        """Return the path of a kubeconfig whose current context is this server and namespace."""
        if self.stand_in is not None:
            return self.stand_in.kubeconfig(self.namespace)
        return Path(os.environ[VARIABLE])

    def add_node(self, *, gpus: int) -> Kubelet:
        """Add a node that only pods which select its label `fleetune.dev/test` = the namespace go to."""
        name = f"{self.namespace}-{len(self._nodes)}"
        labels = {"fleetune.dev/test": self.namespace}
        is_idle = not self.has_engines
        node = Kubelet(self._client(), self._folder, name=name, gpus=gpus, labels=labels, is_idle=is_idle)
        if self.stand_in is not None:
            self.stand_in.nodes[name] = node
        self._nodes.append(node)
        return node

    def post(self, path: str, value: Object, **query: str) -> tuple[int, str]:
        """Send an object as it is, past the client's own models; return the code and the text of the answer."""
        words = self.api.param_serialize(
            "POST",
            path,
            query_params=list(query.items()),
            header_params={"Content-Type": "application/json"},
            body=value,
            auth_settings=["BearerToken"],
        )
        answer = self.api.call_api(*words)
        return answer.status, str(answer.response.data)

    def close(self) -> None:
        self.core.delete_namespace(self.namespace)
        try:
            wait(self._is_without_pods)
        finally:
            for node in self._nodes:
                node.stop()
            if self.stand_in is not None:
                self.stand_in.faults.clear()

    def _is_without_pods(self) -> bool:
        """Nobody waits for the grace of pods whose test is over; that of a node which nobody runs would never end."""
        left = self.core.list_namespaced_pod(self.namespace).items
        for pod in left:
            with suppress(ApiException):  # gone meanwhile
                name = "" if pod.metadata is None else str(pod.metadata.name)
                self.core.delete_namespaced_pod(name, self.namespace, grace_period_seconds=0)
        return not left

    def _client(self) -> client.ApiClient:
        return real_client() if self.stand_in is None else self.stand_in.api()


def real_client() -> client.ApiClient:
    """Return a client of the real server."""
    found: client.ApiClient = config.new_client_from_config(os.environ[VARIABLE])  # type: ignore[no-untyped-call]
    return found


def is_furnished(core: client.CoreV1Api, namespace: str) -> bool:
    """Say whether a namespace has the account without which no pod is taken: controllers put it there, and more."""
    return bool(core.list_namespaced_service_account(namespace).items)


def runs_pods_of_others(core: client.CoreV1Api, node: Kubelet, *, patience_s: float) -> bool:
    """Say whether somebody lets a pod run on a node whose own kubelet is idle."""
    name = node.name
    core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=name)))
    try:
        wait(lambda: is_furnished(core, name))
        container = {"name": "it", "image": "nothing"}
        spec = {"nodeName": name, "containers": [container], "tolerations": [{"operator": "Exists"}]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "it"}, "spec": spec}
        core.create_namespaced_pod(name, client.V1Pod.model_validate(pod))
        until_s = time.monotonic() + patience_s
        while time.monotonic() < until_s:
            status = core.read_namespaced_pod("it", name).status
            if status is not None and status.phase == "Running":
                return True
            time.sleep(0.1)
        return False
    finally:
        with suppress(ApiException):
            core.delete_namespaced_pod("it", name, grace_period_seconds=0)
        core.delete_namespace(name)
        node.stop()


@cache
def real_pods_run() -> bool:
    """Say whether nodes of the tests are theirs on the real server. Asked once."""
    api, name = real_client(), f"fleetune-test-{uuid.uuid4().hex[:8]}"
    node = Kubelet(api, Path(), name=name, gpus=0, is_idle=True)
    return not runs_pods_of_others(client.CoreV1Api(api), node, patience_s=_LOOK_S)


def wait(done: Callable[[], bool], *, patience_s: float = PATIENCE_S) -> None:
    """Return when something has come about. Raises AssertionError when it never does."""
    give_up_s = time.monotonic() + patience_s
    while not done():
        if time.monotonic() > give_up_s:
            raise AssertionError("never came about")
        time.sleep(0.02)
