"""The objects of a cluster, their history, and the rules of a write: versions, generation, ownership, deletion."""

from __future__ import annotations

import copy
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from tests.fakes.kubernetes.creation import counts_generations, made
from tests.fakes.kubernetes.defaults import defaulted
from tests.fakes.kubernetes.errors import ApiError, invalid, not_found, terminating
from tests.fakes.kubernetes.ownership import applied_to, clashes, conflict, duplicates, fields_of, owned
from tests.fakes.kubernetes.quantities import canonical
from tests.fakes.kubernetes.rules import semantic_flaws
from tests.fakes.kubernetes.schemas import Flaw, Object, Resource, broken_rules, flaws, pruned, schema_of
from tests.fakes.kubernetes.writes import (
    FOREGROUND,
    Writer,
    check_applied,
    check_namespace,
    check_preconditions,
    check_replaced,
    check_same,
    check_uid,
    check_version,
    grace_of,
    may_go,
    now,
    taken,
    told,
    without_times,
)

Key = tuple[str, str, str]
"""Full name of the resource, namespace ("" for none), name."""


class Change(NamedTuple):
    version: int
    kind: str  # ADDED, MODIFIED, DELETED
    resource: Resource
    value: Object
    before: Object | None = None
    at_s: float = 0.0  # by a steady clock


class Objects:
    """Thread-safe. `changed` is notified after every change; `history` is how many changes can be watched again."""

    def __init__(self, *, history: int = 5000) -> None:
        self.changed = threading.Condition(threading.RLock())
        self._items: dict[Key, Object] = {}
        self._log: deque[Change] = deque(maxlen=history)
        self._version = 100
        self.denials: dict[str, str] = {}  # what a policy of the cluster says to every object of a kind

    @property
    def version(self) -> int:
        return self._version

    @property
    def oldest_version(self) -> int:
        """Watches from before this one are told 410."""
        with self.changed:
            dropped = self._log and len(self._log) == self._log.maxlen
            return self._log[0].version - 1 if dropped else self._compacted

    _compacted = 0

    def compact(self) -> None:
        """Forget all history: whoever watches from before is told to list again."""
        with self.changed:
            self._log.clear()
            self._version += 1
            self._compacted = self._version

    def get(self, resource: Resource, namespace: str, name: str) -> Object:
        with self.changed:
            found = self._items.get((resource.full_name, namespace, name))
            if found is None:
                raise not_found(resource, name)
            return copy.deepcopy(found)

    def list(self, resource: Resource, namespace: str = "", *, shared: bool = False) -> list[Object]:
        """Return objects by name; of every namespace when none is given. `shared` ones must not be changed."""
        with self.changed:
            found = [
                value
                for (of, where, _), value in sorted(self._items.items(), key=lambda item: item[0])
                if of == resource.full_name and namespace in ("", where)
            ]
            return found if shared else copy.deepcopy(found)

    def since(self, version: int) -> Sequence[Change]:
        """Return what changed after a version. Raises ApiError 410 when that is not remembered."""
        with self.changed:
            if version < self.oldest_version:
                raise ApiError(410, f"too old resource version: {version} ({self.oldest_version})")
            return [change for change in self._log if change.version > version]

    def create(self, resource: Resource, namespace: str, value: Object, by: Writer = Writer()) -> Object:  # noqa: B008
        value = {"apiVersion": resource.api_version, "kind": resource.kind, **self._decoded(resource, value, by)}
        check_namespace(resource, namespace, value)
        metadata = value.setdefault("metadata", {})
        name = metadata.get("name") or f"{metadata.get('generateName', '')[:58]}{uuid.uuid4().hex[:5]}"
        with self.changed:
            if (resource.full_name, namespace, name) in self._items:
                message = f'{resource.full_name} "{name}" already exists'
                raise ApiError(409, message, reason="AlreadyExists")
            if resource.namespaced:
                self._require_namespace(resource, namespace, name)
            metadata |= {"name": name, **({"namespace": namespace} if resource.namespaced else {})}
            metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": now()}
            for unset in ("managedFields", "resourceVersion", "deletionTimestamp", "generation"):
                metadata.pop(unset, None)
            if "status" in resource.subresources and by.subresource != "status":
                value.pop("status", None)
            return self._kept(resource, None, made(resource, value), by)

    def replace(self, resource: Resource, namespace: str, name: str, value: Object, by: Writer) -> Object:
        value = self._decoded(resource, value, by)
        with self.changed:
            live = self.get(resource, namespace, name)
            check_replaced(resource, value)
            check_same(resource, live, value, is_whole=True)
            check_version(resource, live, value)
            return self._kept(resource, live, taken(resource, live, value, by), by)

    def change(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        change: Callable[[Object], Object],
        by: Writer = Writer(),  # noqa: B008
    ) -> Object:
        """Write what `change` makes of the present object: a patch."""
        with self.changed:
            live = self.get(resource, namespace, name)
            value = self._decoded(resource, change(copy.deepcopy(live)), by)
            check_version(resource, live, value)
            check_same(resource, live, value, is_whole=False)
            return self._kept(resource, live, taken(resource, live, value, by), by)

    def apply(self, resource: Resource, namespace: str, name: str, value: Object, by: Writer) -> Object:
        """Apply an object on the server's side: create it, or change just what it names."""
        untyped = flaws(value, resource)
        if untyped:  # a server answers 500 to this, not 400
            said = f"{namespace}/{name}; {resource.api_version}, Kind={resource.kind}"
            why = "field not declared in schema" if untyped[0].unknown else untyped[0].message
            raise ApiError(500, f"failed to create typed patch object ({said}): {untyped[0].path}: {why}")
        schema = schema_of(resource)
        check_applied(resource, name, value)
        check_namespace(resource, namespace, value)
        for twice in duplicates(value, schema):
            said = f"{namespace}/{name}; {resource.api_version}, Kind={resource.kind}"
            raise ApiError(500, f"failed to create typed patch object ({said}): {twice}")
        value = copy.deepcopy(value)
        with self.changed:
            key = (resource.full_name, namespace, name)
            if key not in self._items:
                check_uid(resource, name, value)
                return self._created_by_apply(resource, namespace, value, by)
            live = self.get(resource, namespace, name)
            check_version(resource, live, value)
            check_same(resource, live, value, is_whole=False)
            found = clashes(live, value, schema, manager=by.manager, subresource=by.subresource)
            if found and not by.force:
                raise conflict(found)
            merged = applied_to(live, value, schema, manager=by.manager, subresource=by.subresource)
            merged = canonical(defaulted(resource, merged), schema)
            return self._kept(resource, live, taken(resource, live, merged, by), by, fields=fields_of(value, schema))

    def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        *,
        grace_s: int | None = None,
        only: Object | None = None,
        policy: str | None = None,
    ) -> Object:
        """Delete at once, or mark for deletion: while finalizers are left, or a pod's node has not let it go.

        With policy Foreground what it owns goes first.
        """
        with self.changed:
            live = self.get(resource, namespace, name)
            check_preconditions(resource, live, only or {})
            grace = grace_of(resource, live, grace_s)
            metadata, before = live["metadata"], live["metadata"].get("deletionGracePeriodSeconds")
            if policy == "Foreground" and FOREGROUND not in metadata.get("finalizers", []):
                metadata["finalizers"] = [*metadata.get("finalizers", []), FOREGROUND]
            if resource.kind == "Namespace":
                live["status"] = {**live.get("status", {}), "phase": "Terminating"}
            if grace > 0 or not may_go(resource, {**live, "metadata": {**metadata, "deletionGracePeriodSeconds": 0}}):
                metadata.setdefault("deletionTimestamp", now())
                metadata["deletionGracePeriodSeconds"] = grace if before is None else min(before, grace)
                return self._kept(resource, self.get(resource, namespace, name), live, Writer())
            return self._gone(resource, live)

    def _created_by_apply(self, resource: Resource, namespace: str, value: Object, by: Writer) -> Object:
        fields = fields_of(value, schema_of(resource))
        created = self.create(resource, namespace, value, by._replace(dry_run=True))
        return self._kept(resource, None, created, by, fields=fields)

    def _decoded(self, resource: Resource, value: Object, by: Writer) -> Object:
        self._refuse_flaws(resource, value, by)
        kept: Object = pruned(copy.deepcopy(value), schema_of(resource))
        found: Object = canonical(defaulted(resource, kept), schema_of(resource))
        return found

    def _refuse_flaws(self, resource: Resource, value: Object, by: Writer) -> None:
        found = [flaw for flaw in flaws(value, resource) if by.strict or not flaw.unknown]
        if not found:
            return
        if resource.custom and not any(flaw.unknown for flaw in found):
            raise invalid(resource, str(value.get("metadata", {}).get("name")), found)
        said = ", ".join(flaw.message for flaw in found)
        raise ApiError(400, f"strict decoding error: {said}" if any(f.unknown for f in found) else said)

    def _kept(
        self,
        resource: Resource,
        live: Object | None,
        value: Object,
        by: Writer,
        *,
        fields: frozenset[tuple[str, ...]] | None = None,
    ) -> Object:
        name = value["metadata"]["name"]
        if resource.kind in self.denials and by.subresource != "status":
            said = f'{resource.full_name} "{name}" is forbidden: {self.denials[resource.kind]}'
            raise ApiError(403, said)
        found: Sequence[Flaw] = broken_rules(value, resource)
        if by.subresource != "status":  # which changes nothing else
            found = [*found, *semantic_flaws(resource, live, value)]
        if found:
            raise invalid(resource, name, found)
        if live is not None and by.subresource != "status" and counts_generations(resource):
            changed = told(resource, live) != told(resource, value)
            value["metadata"]["generation"] = live["metadata"].get("generation", 1) + changed
        entry: Object = {"manager": by.manager, "operation": "Update" if fields is None else "Apply", "time": now()}
        entry |= {"apiVersion": resource.api_version, **({"subresource": by.subresource} if by.subresource else {})}
        if fields is not None:
            entry["fields"] = fields
        before = [] if live is None else live["metadata"].get("managedFields", [])
        value["metadata"]["managedFields"] = owned(live, value, before, schema_of(resource), entry)
        if live is not None and without_times(live) == without_times(value):
            return live  # nothing changed: no new version
        if by.dry_run:
            return value
        return self._written(resource, live, value)

    def _written(self, resource: Resource, live: Object | None, value: Object) -> Object:
        metadata = value["metadata"]
        if metadata.get("deletionTimestamp") and live is not None and may_go(resource, value):
            return self._gone(resource, value)
        self._version += 1
        metadata["resourceVersion"] = str(self._version)
        key = (resource.full_name, metadata.get("namespace", ""), metadata["name"])
        self._items[key] = value
        self._note("MODIFIED" if live is not None else "ADDED", resource, value, live)
        return copy.deepcopy(value)

    def _gone(self, resource: Resource, value: Object) -> Object:
        metadata = value["metadata"]
        self._version += 1
        metadata["resourceVersion"] = str(self._version)
        self._items.pop((resource.full_name, metadata.get("namespace", ""), metadata["name"]), None)
        self._note("DELETED", resource, value, value)
        return value

    def _note(self, kind: str, resource: Resource, value: Object, before: Object | None) -> None:
        self._log.append(Change(self._version, kind, resource, value, before, time.monotonic()))
        self.changed.notify_all()

    def _require_namespace(self, resource: Resource, namespace: str, name: str) -> None:
        found = self._items.get(("namespaces", "", namespace))
        if found is None:
            raise ApiError(404, f'namespaces "{namespace}" not found')
        if found["metadata"].get("deletionTimestamp"):
            raise terminating(resource, namespace, name)

    def everything(self) -> Iterator[tuple[Key, Object]]:
        """All objects, not to be changed. Hold `changed` meanwhile."""
        yield from self._items.items()
