"""The HTTP of the stand-in: paths, verbs, patches and watches of a Kubernetes API server."""

from __future__ import annotations

import json
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import yaml

from tests.fakes.kubernetes.admission import admitted_pod
from tests.fakes.kubernetes.discovery import discovered
from tests.fakes.kubernetes.errors import ApiError, no_such_path, too_new
from tests.fakes.kubernetes.faults import REVIEWS, Call, Faults
from tests.fakes.kubernetes.logs import shown_of
from tests.fakes.kubernetes.objects import Change, Objects
from tests.fakes.kubernetes.pages import Pages
from tests.fakes.kubernetes.patches import json_patched, merge_patched
from tests.fakes.kubernetes.schemas import Object, Resource, resources
from tests.fakes.kubernetes.selection import check_fields, matches
from tests.fakes.kubernetes.shapes import bookmark, scale_of, shown, untyped
from tests.fakes.kubernetes.surroundings import unproven
from tests.fakes.kubernetes.wire import Wire
from tests.fakes.kubernetes.writes import Writer

_PATH = re.compile(
    r"/(?:api/(?P<core>v1)|apis/(?P<group>[^/]+)/(?P<version>[^/]+))"
    r"(?:/namespaces/(?P<namespace>[^/]+)(?=/[a-z]+))?/(?P<plural>[a-z]+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>[a-z]+))?"
)
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}
Logs = Callable[[Object, bool], str]
"""A pod's log: of its last life rather than this one."""


class Target(NamedTuple):
    resource: Resource
    namespace: str
    name: str
    sub: str


class ApiServer:
    """Serves `objects` on loopback until `stop`; `outage` answers nobody for a while."""

    def __init__(self, objects: Objects, faults: Faults, *, logs: Logs, tls: ssl.SSLContext | None = None) -> None:
        self.objects, self.faults, self.logs = objects, faults, logs
        self.stopping = threading.Event()
        self.is_out = False
        self._pages = Pages(objects)
        self._http, self._scheme = Wire(self, tls), "http" if tls is None else "https"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._http.server_port}"

    def stop(self) -> None:
        self.stopping.set()
        with self.objects.changed:
            self.objects.changed.notify_all()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def answer(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, Object | str]:
        """Answer one request that is no watch. Raises ApiError."""
        self.faults.check_token(_token(headers))
        said = discovered(urlsplit(url).path, missing=self.faults.missing)
        if said is not None:
            return 200, said
        if (method, urlsplit(url).path) == ("POST", REVIEWS):
            return 201, self.faults.reviewed(_parsed(body))
        target, query = self._target(url)
        verb = _verb(method, target)
        self._check(verb, target, headers)
        if method == "GET":
            return 200, self._read(target, query)
        by = _writer(query, headers, target.sub)
        return (201 if method == "POST" else 200), self._written(method, target, body, query, headers, by)

    def _read(self, target: Target, query: Mapping[str, str]) -> Object | str:
        if target.sub == "log":
            return self._log(target, query)
        if not target.name:
            return self._listed(target, query)
        found = self.objects.get(target.resource, target.namespace, target.name)
        return scale_of(found) if target.sub == "scale" else shown(target.resource, found)

    def _written(
        self, method: str, target: Target, body: bytes, query: Mapping[str, str], headers: Mapping[str, str], by: Writer
    ) -> Object:
        resource, namespace, name = target.resource, target.namespace, target.name
        if by.dry_run:
            self.faults.check_dry_run(resource.kind)
        match method:
            case "POST":
                return self.objects.create(resource, namespace, self._admitted(target, _parsed(body), by), by)
            case "PUT":
                return self.objects.replace(resource, namespace, name, _parsed(body), by)
            case "PATCH":
                self._require_create(target, headers)
                return self._patched(target, body, headers.get("Content-Type", ""), by)
            case "DELETE":
                return self._deleted(target, _parsed(body) if body else {}, query)
        raise ApiError(405, f"{method} is not allowed")

    def _admitted(self, target: Target, value: Object, by: Writer) -> Object:
        """Return an object as admission leaves it. Raises ApiError."""
        if target.resource.kind == "Pod":
            return admitted_pod(self.objects, target.namespace, value, dry_run=by.dry_run)
        return unproven(value) if target.resource.kind == "Node" else value

    def watch(self, url: str, headers: Mapping[str, str]) -> Iterator[Object]:
        """Return the events of a watch until it is dropped or its time is over. Raises ApiError when it may not be."""
        self.faults.check_token(_token(headers))
        target, query = self._target(url)
        self._check("watch", target, headers)
        check_fields(target.resource, query)
        version = int(query.get("resourceVersion") or 0)
        if version > self.objects.version:
            raise too_new(version, self.objects.version)
        return self._events(target, query, self.faults.watch_epoch)

    def _events(self, target: Target, query: Mapping[str, str], epoch: int) -> Iterator[Object]:
        version = int(query.get("resourceVersion") or 0)
        is_list = query.get("sendInitialEvents") == "true"  # a list as a watch (KEP-3157)
        if not version or is_list:
            listed = self._first(target, query, 0)
            version = int(listed["metadata"]["resourceVersion"])
            yield from ({"type": "ADDED", "object": each} for each in listed["items"])
        if is_list:
            yield bookmark(target.resource, version, ends_list=True)
        until_s = time.monotonic() + float(query.get("timeoutSeconds", 3600))
        bookmark_s = time.monotonic() + self.faults.bookmark_s
        while time.monotonic() < until_s and epoch == self.faults.watch_epoch and not self._is_over:
            with self.objects.changed:
                if not (news := self._news(target, version)):
                    self.objects.changed.wait(0.1)
                    news = self._news(target, version)
                is_late = target.resource.plural in self.faults.late
                version = (news[-1].version if news else version) if is_late else self.objects.version
            yield from (event for change in news if (event := _event(change, target, query)) is not None)
            if query.get("allowWatchBookmarks") == "true" and time.monotonic() >= bookmark_s:
                bookmark_s = time.monotonic() + self.faults.bookmark_s
                yield bookmark(target.resource, version)

    def _news(self, target: Target, version: int) -> Sequence[Change]:
        told_s = time.monotonic() - self.faults.late.get(target.resource.plural, 0.0)
        return [each for each in self.objects.since(version) if each.at_s <= told_s]

    @property
    def _is_over(self) -> bool:
        return self.stopping.is_set() or self.is_out

    def _target(self, url: str) -> tuple[Target, dict[str, str]]:
        parts = urlsplit(url)
        found = _PATH.fullmatch(parts.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if found is None:
            raise no_such_path()
        group, version, plural = found["group"] or "", found["version"] or found["core"], found["plural"]
        for each in resources():
            if (each.group, each.version, each.plural) == (group, version, plural):
                return Target(each, found["namespace"] or "", found["name"] or "", found["sub"] or ""), query
        raise no_such_path()

    def _check(self, verb: str, target: Target, headers: Mapping[str, str]) -> None:
        resource = target.resource
        where, who = (resource.group, resource.plural, target.sub, target.namespace), _agent(headers)
        call = Call(verb, *where, who, target.name)
        self.faults.before(call, resource)
        if target.sub and target.sub not in resource.subresources:
            raise ApiError(404, "the server could not find the requested resource")

    def _require_create(self, target: Target, headers: Mapping[str, str]) -> None:
        """An apply that makes an object needs the right to create it beside the one to patch."""
        if "apply-patch" in headers.get("Content-Type", "") and not self._is_there(target):
            self._check("create", target._replace(sub=""), headers)

    def _is_there(self, target: Target) -> bool:
        try:
            return bool(self.objects.get(target.resource, target.namespace, target.name))
        except ApiError:
            return False

    def _log(self, target: Target, query: Mapping[str, str]) -> str:
        pod = self.objects.get(target.resource, target.namespace, target.name)
        names = [each["name"] for each in pod["spec"]["containers"]]
        if query.get("container", "" if len(names) > 1 else names[0]) not in names:
            raise ApiError(400, f"a container name must be specified for pod {target.name}, choose one of: {names}")
        return shown_of(self.logs(pod, query.get("previous") == "true"), query)

    def _listed(self, target: Target, query: Mapping[str, str]) -> Object:
        check_fields(target.resource, query)
        token, limit = query.get("continue"), int(query.get("limit") or 0)
        page = self._pages.go_on(token, limit) if token else self._first(target, query, limit)
        items = page["items"] if target.resource.custom else [untyped(each) for each in page["items"]]
        named = {"apiVersion": target.resource.api_version, "kind": f"{target.resource.kind}List"}
        return {**named, **page, "items": items}

    def _first(self, target: Target, query: Mapping[str, str], limit: int) -> Object:
        with self.objects.changed:
            found, version = self.objects.list(target.resource, target.namespace), self.objects.version
        mine = [shown(target.resource, each) for each in found if matches(each, query)]
        return self._pages.first(mine, version, limit)

    def _patched(self, target: Target, body: bytes, kind: str, by: Writer) -> Object:
        resource, namespace, name = target.resource, target.namespace, target.name
        if "apply-patch" in kind:
            if not by.manager:
                raise ApiError(422, "fieldManager: Required value: is required for apply patch")
            return self.objects.apply(resource, namespace, name, yaml.safe_load(body), by)
        patch = _parsed(body)
        change = json_patched if "json-patch" in kind else merge_patched
        if target.sub == "scale":
            return scale_of(self._scaled(target, change, patch, by))
        return self.objects.change(resource, namespace, name, lambda live: change(live, patch), by)

    def _scaled(self, target: Target, change: Callable[[Any, Any], Object], patch: Any, by: Writer) -> Object:
        def scaled(live: Object) -> Object:
            replicas = change(scale_of(live), patch)["spec"]["replicas"]
            return {**live, "spec": {**live["spec"], "replicas": replicas}}

        return self.objects.change(target.resource, target.namespace, target.name, scaled, by)

    def _deleted(self, target: Target, options: Object, query: Mapping[str, str]) -> Object:
        grace = options.get("gracePeriodSeconds", query.get("gracePeriodSeconds"))
        grace_s = None if grace is None else int(grace)
        policy = options.get("propagationPolicy", query.get("propagationPolicy"))
        only = options.get("preconditions", {})
        if not target.name:
            found = [e for e in self.objects.list(target.resource, target.namespace) if matches(e, query)]
            for each in found:
                self.objects.delete(target.resource, target.namespace, each["metadata"]["name"], grace_s=grace_s)
            return {"kind": "Status", "apiVersion": "v1", "status": "Success"}
        return self.objects.delete(
            target.resource, target.namespace, target.name, grace_s=grace_s, only=only, policy=policy
        )


def _verb(method: str, target: Target) -> str:
    if method == "GET":
        return "get" if target.name else "list"
    if method == "DELETE":
        return "delete" if target.name else "deletecollection"
    return _VERBS.get(method, method.lower())


def _token(headers: Mapping[str, str]) -> str:
    return next((value for name, value in headers.items() if name.lower() == "authorization"), "")


def _agent(headers: Mapping[str, str]) -> str:
    return headers.get("User-Agent", "unknown").split("/")[0]


def _writer(query: Mapping[str, str], headers: Mapping[str, str], sub: str) -> Writer:
    is_apply = "apply-patch" in headers.get("Content-Type", "")
    return Writer(
        manager=query.get("fieldManager") or ("" if is_apply else _agent(headers)),
        subresource=sub,
        strict=query.get("fieldValidation") == "Strict",
        dry_run="dryRun" in query,
        force=query.get("force", "").lower() == "true",
    )


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError as error:
        raise ApiError(400, f"the body is no JSON: {error}") from error


def _event(change: Change, target: Target, query: Mapping[str, str]) -> Object | None:
    """Return what a watch is told of a change: an object that leaves its selection is gone, one that enters is new."""
    mine = change.resource.full_name == target.resource.full_name
    if not mine or target.namespace not in ("", change.value["metadata"].get("namespace", "")):
        return None
    was = change.before is not None and matches(change.before, query)
    is_in = change.kind != "DELETED" and matches(change.value, query)
    if not was and not is_in:
        return None
    kind = "MODIFIED" if was and is_in else "ADDED" if is_in else "DELETED"
    left = change.kind != "DELETED" and not is_in
    if left and change.before is not None:  # shown as it was while it was in, at this version
        before = change.before["metadata"] | {"resourceVersion": change.value["metadata"]["resourceVersion"]}
        return {"type": kind, "object": {**change.before, "metadata": before}}
    return {"type": kind, "object": shown(target.resource, change.value)}
