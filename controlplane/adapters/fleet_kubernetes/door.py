"""The API server behind plain verbs on paths: objects are JSON as they come, refusals are errors of the domain.

Plain JSON rather than the client's models: a pass over thousands of pods would spend its second on validating them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import urllib3
import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException

from controlplane.adapters.fleet_kubernetes.hangup import Hangup
from controlplane.adapters.fleet_kubernetes.refusals import Asked, Expired, refusal, refused_watch, short
from controlplane.adapters.fleet_kubernetes.wire import (
    AGENT,
    JSON,
    Question,
    Reopen,
    Wire,
    bear_silence,
    lines,
    require_success,
)
from controlplane.domain.errors import InvalidInput, NotFound, Unavailable

MANAGER = AGENT
"""The field manager of everything Fleetune applies."""
OPENED = "OPENED"
"""The first event of a watch that the server has taken."""
_SILENCE_S = 150.0
"""A watch that hears nothing for so long is dead: a server sends a bookmark every minute."""
_PAGE = "500"
_CONNECTIONS = 32
"""Kept open at once: a watch holds one for minutes, and all duties of a process ask by one door."""
_UNREADABLE = (ConfigException, OSError, TypeError, ValueError, AttributeError, yaml.YAMLError)
"""What the client makes of a kubeconfig that is none: no YAML, no mapping, a certificate that is no base64."""
Json = dict[str, Any]


class Place(NamedTuple):
    """A kind of object in a namespace, or in none."""

    prefix: str  # api/v1, apis/apps/v1
    plural: str
    namespace: str | None = None

    def path(self, name: str = "") -> str:
        within = f"/namespaces/{self.namespace}" if self.namespace else ""
        return f"/{self.prefix}{within}/{self.plural}{f'/{name}' if name else ''}"

    def named(self, name: str = "") -> str:
        within = f"{self.namespace}/" if self.namespace else ""
        return f"{self.plural} {within}{name}".strip()


class Door:
    """One API server. Every method raises Unavailable when it does not answer, Forbidden when a right is missing."""

    def __init__(
        self,
        api: client.ApiClient,
        *,
        reopen: Reopen | None = None,
        sleep: Callable[[float], None] = time.sleep,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wire = Wire(api, reopen=reopen, sleep=sleep, steady=steady)

    @property
    def host(self) -> str:
        return self._wire.host

    def get(self, place: Place, name: str) -> Json | None:
        """Return an object, None when there is none."""
        try:
            return self._asked("GET", place, name)
        except NotFound:
            return None

    def list(self, place: Place, **query: str) -> Json:
        """Return a list with its resource version, asked for in pages. Raises NotFound when the kind is unknown."""
        try:
            return self._paged(place, {"limit": _PAGE, **query}, is_whole="limit" not in query)
        except Expired:  # the pages took longer than the server remembers the first
            return self._asked("GET", place, query=query)

    def _paged(self, place: Place, query: Mapping[str, str], *, is_whole: bool) -> Json:
        found = page = self._asked("GET", place, query=query)
        while is_whole and (token := page["metadata"].get("continue")):
            page = self._asked("GET", place, query={**query, "continue": token})
            found["items"] += page["items"]
        return found

    def apply(self, place: Place, value: Mapping[str, Any], *, dry_run: bool = False) -> Json:
        """Make an object what it says, as `fleetune`; with `dry_run` only ask whether the server would.

        Raises StaleVersion, InvalidInput, and Conflict naming who else set one of these fields to another value:
        nothing is ever taken over by force.
        """
        query = {"fieldManager": MANAGER, "fieldValidation": "Strict", **({"dryRun": "All"} if dry_run else {})}
        kind = "application/apply-patch+yaml"
        return self._asked("PATCH", place, str(value["metadata"]["name"]), value, query=query, kind=kind)

    def merge(self, place: Place, name: str, patch: Mapping[str, Any]) -> Json | None:
        """Change single fields of an object; None when it is gone."""
        query = {"fieldManager": MANAGER}
        try:
            return self._asked("PATCH", place, name, patch, query=query, kind="application/merge-patch+json")
        except NotFound:
            return None

    def create(self, place: Place, value: Mapping[str, Any]) -> Json:
        """Raises Conflict when there is one of this name."""
        return self._asked("POST", place, "", value, query={"fieldManager": MANAGER})

    def replace(self, place: Place, name: str, value: Mapping[str, Any]) -> Json:
        """Raises StaleVersion when somebody else wrote since."""
        return self._asked("PUT", place, name, value, query={"fieldManager": MANAGER})

    def delete(self, place: Place, name: str, *, grace_s: int | None = None, version: str | None = None) -> None:
        """Ask for an object to go; one that is gone is fine. Raises StaleVersion when `version` is another."""
        options: Json = {"propagationPolicy": "Background"}
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        if version is not None:
            options["preconditions"] = {"resourceVersion": version}
        try:
            self._asked("DELETE", place, name, options)
        except NotFound:
            return

    def log(self, place: Place, name: str, *, container: str, previous: bool, limit_bytes: int) -> str:
        """Return the last lines of a container's log, of those at most so many bytes from their beginning.

        Raises NotFound, InvalidInput when there is none.
        """
        query = {"container": container, "previous": str(previous).lower()}
        query |= {"tailLines": "500", "limitBytes": str(limit_bytes)}
        with self._refusals("get", place, f"{name}/log"):
            content = self._wire.content(Question("GET", f"{place.path(name)}/log", query=query))
            return content.decode(errors="replace")

    def watch(
        self, place: Place, version: str, *, seconds: int, hangup: Hangup, **query: str
    ) -> Iterator[tuple[str, Json]]:
        """Yield OPENED, then what happens after a version, bookmarks among it, for so many seconds or until `hangup`.

        Raises Expired, and Unavailable when it was hung up.
        """
        asked = {**query, "watch": "true", "allowWatchBookmarks": "true", "resourceVersion": version}
        asked["timeoutSeconds"] = str(seconds)
        with self._refusals("watch", place):
            raw = self._wire.called(Question("GET", place.path(), query=asked))
            try:
                with hangup.ends(raw):
                    yield from _events(raw)
            finally:
                raw.close()  # an answer half read cannot be used again
                raw.release_conn()

    def _asked(
        self,
        method: str,
        place: Place,
        name: str = "",
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        kind: str = JSON,
    ) -> Json:
        verb = {"GET": "get" if name else "list", "POST": "create", "PUT": "update"}.get(method, method.lower())
        with self._refusals(verb, place, name):
            content = self._wire.content(Question(method, place.path(name), body, query or {}, kind))
            found: Json = json.loads(content)
            return found

    @contextmanager
    def _refusals(self, verb: str, place: Place, name: str = "") -> Iterator[None]:
        try:
            yield
        except ApiException as error:
            raise refusal(error, Asked(verb, place.plural, place.named(name))) from error
        except ConfigException as error:  # a plug-in that gives tokens does not
            raise Unavailable(f"no credentials for the API server {self.host}", why=short(error)) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Unavailable(f"the API server {self.host} does not answer", why=short(error)) from error
        except ValueError as error:
            raise Unavailable(f"the API server {self.host} answers what is no JSON", why=short(error)) from error


def _events(raw: Any) -> Iterator[tuple[str, Json]]:
    require_success(raw, b"" if raw.status == 200 else raw.read())
    bear_silence(raw, _SILENCE_S)  # a server says at once that it took a watch; what happens then may take long
    yield OPENED, {}
    for event in map(json.loads, lines(raw)):
        if event["type"] == "ERROR":
            raise refused_watch(event["object"])
        yield event["type"], event["object"]


def open_door(kubeconfig: Path | None = None, context: str | None = None) -> Door:
    """Return the server of a kubeconfig; of the pod this runs in when none is given and none is at its usual place.

    Raises InvalidInput when there is none, or it has no such context.
    """
    open_api = partial(_opened, kubeconfig, context)
    try:
        api = open_api()
    except _UNREADABLE as error:
        where = "the usual place (KUBECONFIG, ~/.kube/config)" if kubeconfig is None else str(kubeconfig)
        raise InvalidInput(
            f"no cluster in {where}", why=short(error), allowed="--kubeconfig FILE, and --context one of its contexts"
        ) from error
    return Door(api, reopen=open_api)


def context_namespace(kubeconfig: Path | None, context: str | None) -> str | None:
    """Return the namespace that a context of a kubeconfig names, None when it names none."""
    try:
        path = None if kubeconfig is None else str(kubeconfig)
        contexts, active = config.list_kube_config_contexts(path)  # type: ignore[no-untyped-call]
    except _UNREADABLE:
        return None
    chosen = active if context is None else next((each for each in contexts if each["name"] == context), active)
    found: str | None = chosen["context"].get("namespace")
    return found


def _opened(kubeconfig: Path | None, context: str | None) -> client.ApiClient:
    settings = client.Configuration()
    settings.retries = urllib3.Retry(
        total=1, redirect=0, respect_retry_after_header=False
    )  # a pass comes back by itself
    settings.connection_pool_maxsize = _CONNECTIONS
    if kubeconfig is None and context is None and _in_cluster():
        config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
    else:
        path = None if kubeconfig is None else str(kubeconfig)
        config.load_kube_config(path, context, settings)  # type: ignore[no-untyped-call]
    return client.ApiClient(settings)


def _in_cluster() -> bool:
    return Path("/var/run/secrets/kubernetes.io/serviceaccount/token").exists()
