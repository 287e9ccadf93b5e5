"""The API servers that suites run on: the stand-in, and the one that FLEETUNE_TEST_KUBECONFIG names, when it is set.

On a real server every test has a namespace and a node of its own, whose kubelet is that of the stand-in: it needs the
rights of an administrator, a controller manager and a scheduler, and leaves nothing behind.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from kubernetes import client, config

from tests.fakes.kubernetes.cluster import StandIn
from tests.fakes.kubernetes.kubelet import Kubelet
from tests.fakes.kubernetes.schemas import Object

VARIABLE = "FLEETUNE_TEST_KUBECONFIG"
STAND_IN, REAL = "stand-in", "real-server"
KINDS = [STAND_IN] + ([REAL] if os.environ.get(VARIABLE) else [])
PATIENCE_S = 240.0


class Server:
    """One namespace of an API server. `stand_in` is None on a real one."""

    def __init__(self, folder: Path, *, stand_in: StandIn | None) -> None:
        self.stand_in, self._folder = stand_in, folder
        self.namespace = f"fleetune-test-{uuid.uuid4().hex[:8]}"
        self._nodes: list[Kubelet] = []
        self.api = self._client()
        self.core, self.apps = client.CoreV1Api(self.api), client.AppsV1Api(self.api)
        self.core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=self.namespace)))
        if stand_in is None:  # pods are refused before their account is there
            wait(lambda: bool(self.core.list_namespaced_service_account(self.namespace).items))

    def kubeconfig(self) -> Path:
        """Return the path of a kubeconfig whose current context is this server and namespace."""
        if self.stand_in is not None:
            return self.stand_in.kubeconfig(self.namespace)
        return Path(os.environ[VARIABLE])

    def add_node(self, *, gpus: int) -> Kubelet:
        """Add a node that only pods which select its label `fleetune.dev/test` = the namespace go to."""
        name = f"{self.namespace}-{len(self._nodes)}"
        labels = {"fleetune.dev/test": self.namespace}
        node = Kubelet(self._client(), self._folder, name=name, gpus=gpus, labels=labels)
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
        for kind in ("deployments", "services", "poddisruptionbudgets", "pods"):
            if self.stand_in is not None:
                self.stand_in.remove_all(kind, self.namespace)
        wait(lambda: not self.core.list_namespaced_pod(self.namespace).items)
        for node in self._nodes:
            node.stop()
        if self.stand_in is not None:
            self.stand_in.faults.clear()

    def _client(self) -> client.ApiClient:
        if self.stand_in is not None:
            return self.stand_in.api()
        found: client.ApiClient = config.new_client_from_config(os.environ[VARIABLE])  # type: ignore[no-untyped-call]
        return found


def wait(done: Callable[[], bool], *, patience_s: float = PATIENCE_S) -> None:
    """Return when something has come about. Raises AssertionError when it never does."""
    give_up_s = time.monotonic() + patience_s
    while not done():
        if time.monotonic() > give_up_s:
            raise AssertionError("never came about")
        time.sleep(0.02)
