"""A tiny gateway of the Gateway API: looks at HTTPRoutes, says what it makes of them, and splits real HTTP by weight.

A plain client of the API, like the kubelet here. It serves one Gateway, whatever the host name asked for, picks a back
end by weight for each request, then any ready pod of its Service, and passes bytes on as they come. Not modelled:
several rules, matches, filters, retries, timeouts, TLS, HTTP/2, listeners, ReferenceGrants, keeping connections.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from tests.fakes.kubernetes.schemas import Object
from tests.fakes.kubernetes.selection import selected

_GROUP, _VERSION = "gateway.networking.k8s.io", "v1"
_CONTROLLER = "fleetune.dev/tests"
_EVERY_S = 0.03
_CHUNK = 4096

Pool = tuple[int, Sequence[tuple[str, int]]]
"""Weight of a back end, and the addresses of its ready pods."""


class DataPlane:
    """Serves Gateway `name` until `stop`. `is_asleep` lets it look at nothing new; `stop` it to take it away."""

    def __init__(self, api: client.ApiClient, namespace: str, name: str) -> None:
        self._core, self._custom = client.CoreV1Api(api), client.CustomObjectsApi(api)
        self._namespace, self._name = namespace, name
        self.is_asleep = False
        self.chance = random.Random(7)
        self.pools: Sequence[Pool] = ()
        self._stopping = threading.Event()
        self._http = _Front(self)
        self._threads = [
            threading.Thread(target=self._run, daemon=True),
            threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    def stop(self) -> None:
        self._stopping.set()
        self._http.shutdown()
        self._http.server_close()
        for thread in self._threads:
            thread.join()

    def pick(self) -> tuple[str, int] | None:
        """Return the pod that the next request goes to, None when no back end has any: it would be a 500."""
        pools = self.pools
        if not sum(weight for weight, _ in pools):
            return None
        ((_, pods),) = self.chance.choices(pools, weights=[weight for weight, _ in pools])
        return self.chance.choice(list(pods)) if pods else None

    def _run(self) -> None:
        while not self._stopping.wait(_EVERY_S):
            with contextlib.suppress(ApiException, OSError):
                if not self.is_asleep:
                    self._look()

    def _look(self) -> None:
        answer: Any = self._custom.list_namespaced_custom_object(_GROUP, _VERSION, self._namespace, "httproutes")
        mine = [route for route in answer["items"] if self._is_mine(route)]
        services = {each["metadata"]["name"]: each for each in self._plain(self._core.list_namespaced_service)}
        pods = self._plain(self._core.list_namespaced_pod)
        for route in mine:
            self._take(route, services, pods)
        if not mine:
            self.pools = ()

    def _take(self, route: Object, services: Mapping[str, Object], pods: Sequence[Object]) -> None:
        refs = route["spec"]["rules"][0]["backendRefs"]
        missing = [ref["name"] for ref in refs if ref["name"] not in services]
        self.pools = [(ref["weight"], _addresses(services.get(ref["name"]), pods)) for ref in refs]
        conditions = [
            _condition(route, "Accepted", "True", "Accepted", ""),
            _condition(route, "ResolvedRefs", "False", "BackendNotFound", f"no Service {', '.join(missing)}")
            if missing
            else _condition(route, "ResolvedRefs", "True", "ResolvedRefs", ""),
        ]
        parent = {"parentRef": route["spec"]["parentRefs"][0], "controllerName": _CONTROLLER, "conditions": conditions}
        if route.get("status", {}).get("parents") != [parent]:
            name = route["metadata"]["name"]
            body = {"status": {"parents": [parent]}}
            self._custom.patch_namespaced_custom_object_status(
                _GROUP,
                _VERSION,
                self._namespace,
                "httproutes",
                name,
                body,
                _content_type="application/merge-patch+json",
            )

    def _is_mine(self, route: Object) -> bool:
        return self._name in [ref["name"] for ref in route["spec"].get("parentRefs", [])]

    def _plain(self, list_: Any) -> Sequence[Object]:
        found: Sequence[Object] = client.ApiClient().sanitize_for_serialization(list_(self._namespace).items)  # type: ignore[no-untyped-call]
        return found


def _addresses(service: Object | None, pods: Sequence[Object]) -> Sequence[tuple[str, int]]:
    if service is None or not service["spec"].get("selector"):
        return []
    mine = [p for p in pods if selected(p["metadata"].get("labels", {}), {"matchLabels": service["spec"]["selector"]})]
    port = int(service["spec"]["ports"][0]["port"])
    return [(pod["status"]["podIP"], port) for pod in mine if _is_ready(pod)]


def _is_ready(pod: Object) -> bool:
    conditions = {each["type"]: each["status"] for each in pod.get("status", {}).get("conditions", [])}
    return conditions.get("Ready") == "True" and not pod["metadata"].get("deletionTimestamp")


def _condition(route: Object, kind: str, status: str, reason: str, message: str) -> Object:
    before = [c for p in route.get("status", {}).get("parents", []) for c in p["conditions"] if c["type"] == kind]
    same = [each for each in before if (each["status"], each["reason"]) == (status, reason)]
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": route["metadata"]["generation"],
        "lastTransitionTime": same[0]["lastTransitionTime"] if same else now,
    }


class _Front(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, plane: DataPlane) -> None:
        super().__init__(("127.0.0.1", 0), _Relay)
        self.plane = plane

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error."""


class _Relay(BaseHTTPRequestHandler):
    server: _Front

    def log_message(self, *_: object) -> None:
        pass

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        pod = self.server.plane.pick()
        if pod is None:
            self.send_error(500)
            return
        connection = http.client.HTTPConnection(*pod, timeout=240)
        try:
            connection.request(self.command, self.path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
            self.end_headers()
            for chunk in _chunks(answer):
                self.wfile.write(chunk)
                self.wfile.flush()
        finally:
            connection.close()

    do_GET = do_POST = _pass  # noqa: N815


def _chunks(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    while chunk := answer.read1(_CHUNK):
        yield chunk
