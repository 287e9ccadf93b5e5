"""The Fleet port on a Kubernetes cluster: one Deployment per owner, whose ledger says which engines its pods are.

An engine that spans nodes has a LeaderWorkerSet of its own in place of the Deployment, with the same ledger.

The cluster places, starts and restarts pods; here is decided how many there are, and which engine id each is. Every
change is one server-side apply of the Deployment, guarded by its resource version: of two processes that change the
same at once, the later one looks again. (Two that *create* the same Deployment at once would not notice each other;
each owner has one process that starts its engines.)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

from controlplane.adapters.engine_counts import in_flight
from controlplane.adapters.fleet_kubernetes.door import Door, Json, Place
from controlplane.adapters.fleet_kubernetes.group import (
    Group,
    engine_of,
    group_of,
    require_runnable,
    require_same,
    require_startable,
    url_of,
)
from controlplane.adapters.fleet_kubernetes.ledger import Entry, Ledger
from controlplane.adapters.fleet_kubernetes.names import group_name, set_name
from controlplane.adapters.fleet_kubernetes.nodes import Gpus, of_kind
from controlplane.adapters.fleet_kubernetes.pods import CONTAINER, nodes_of, pod_template
from controlplane.adapters.fleet_kubernetes.retries import attempts, overtaken
from controlplane.adapters.fleet_kubernetes.sight import PodSight
from controlplane.adapters.fleet_kubernetes.steps import Around, Patience, moved_on, to_delete
from controlplane.adapters.fleet_kubernetes.view import ClusterView
from controlplane.adapters.fleet_kubernetes.writing import GroupWriter
from controlplane.domain.base import EngineId
from controlplane.domain.cluster import ClusterOptions
from controlplane.domain.engines.fleet import Engine, EngineSpec
from controlplane.domain.errors import Conflict, FleetuneError, NotFound, StaleVersion, Unavailable
from controlplane.domain.owner import Owner
from controlplane.host.clock import utc_now
from controlplane.ports import Clock

_GPU = "nvidia.com/gpu"
_LOG_BYTES = 256 * 1024

Change = Callable[[Ledger], Ledger]


class FleetKubernetes:
    """Engines in one namespace. `options` says where engines of an owner run; its namespace is this one's.

    Holds watches from its first look on, until `close`.
    """

    def __init__(
        self,
        door: Door,
        *,
        namespace: str,
        options: Callable[[Owner], ClusterOptions],
        node_selector: Mapping[str, str] | None = None,
        spot_labels: Callable[[], Sequence[Mapping[str, str]]] = tuple,
        clock: Clock = utc_now,
        steady: Callable[[], float] = time.monotonic,
        patience: Patience = Patience(),  # noqa: B008 - immutable
    ) -> None:
        self._door, self._namespace, self._options = door, namespace, options
        self._node_selector = node_selector or {}
        self._spot_labels, self._clock, self._patience = spot_labels, clock, patience
        self._view = ClusterView(door, namespace, steady=steady)
        self._writer = GroupWriter(door, namespace, self._view)

    def close(self) -> None:
        self._view.close()

    def nodes(self) -> Sequence[Json]:
        """Return every node of the cluster as last heard of. Raises what keeps them from being known."""
        return self._view.nodes()

    def start(self, spec: EngineSpec) -> Engine:
        """Start an engine, or return the one that already has this id."""
        cluster = self._options(spec.owner)
        self._check(spec, cluster)
        for _ in attempts():
            try:
                return self._started(spec, cluster)
            except StaleVersion:
                continue
        present = self._door.get(*self._where(spec, cluster))
        raise Unavailable(f"engine {spec.engine_id} is not started", why=overtaken(present))

    def observe(self, engine_id: EngineId) -> Engine:
        """Look at one engine now and move it on by a step."""
        group = self._moved_on(self._view.find(engine_id))
        if engine_id not in group.ledger:
            raise NotFound(f"no engine {engine_id}")
        return engine_of(group, engine_id)

    def list(self) -> Sequence[Engine]:
        """Look at every engine not yet forgotten, oldest first. Asks the server nothing: watches told it."""
        known = self._view.groups()
        for group in known:
            if not group.ledger:
                self._writer.remove(group)
        engines = [engine for group in known if group.ledger for engine in self._looked_at(group)]
        return sorted(engines, key=lambda engine: engine.started_at)

    def _looked_at(self, group: Group) -> Sequence[Engine]:
        """One owner's trouble must not stop the others: its engines are shown as they were, with what is wrong."""
        try:
            moved, trouble = self._moved_on(group), None
        except FleetuneError as error:
            moved, trouble = group, str(error)
        shown = [engine_of(moved, name) for name in moved.ledger]
        return shown if trouble is None else [engine.evolve(waits_for=trouble) for engine in shown]

    def in_flight(self, engine_id: EngineId) -> int | None:
        """Requests running or waiting in the engine by its own metrics; None when it does not say."""
        group = self._view.find(engine_id)
        entry = group.ledger[engine_id]
        sight = group.pod_of(entry)
        if entry.ready_at is None or entry.state.is_over or sight is None or sight.address is None:
            return None
        return in_flight(url_of(sight.address), group.spec.driver.metrics)

    def stop(self, engine_id: EngineId, *, drain_s: float) -> Engine:
        """Ask an engine to stop, at the latest `drain_s` from now. Its pod's own hook waits for its requests."""
        until = self._clock() + timedelta(seconds=drain_s)

        def drained(ledger: Ledger) -> Ledger:
            if engine_id not in ledger:
                raise NotFound(f"no engine {engine_id}")
            entry = ledger[engine_id]
            return ledger if entry.state.is_over else {**ledger, engine_id: entry.drained_by(until)}

        self._changed(self._view.find(engine_id), drained)
        return self.observe(engine_id)

    def forget(self, engine_id: EngineId) -> None:
        """Remove the memory of an engine that ended; the last one's Deployment goes with it. Raises Conflict."""
        group = self._view.known(engine_id)
        if group is None:
            return

        def forgotten(ledger: Ledger) -> Ledger:
            entry = ledger.get(engine_id)
            if entry is not None and not entry.state.is_over:
                raise Conflict(f"engine {engine_id} is {entry.state}", allowed="forget it when stopped or failed")
            return {name: each for name, each in ledger.items() if name != engine_id}

        try:
            left = self._changed(group, forgotten)
        except NotFound:  # somebody deleted the whole Deployment
            left = group._replace(ledger={})
        if not left.ledger:
            self._writer.remove(left)

    def free_gpus(self, *, spot: bool | None = None) -> int:
        """GPUs of ready nodes that no engine holds. Other people's pods are not counted: they show as `waits_for`."""
        nodes = of_kind(self._view.nodes(), spot, self._spot_labels())
        return max(0, Gpus(nodes, _GPU).all(self._node_selector) - self._held(spot))

    def _held(self, spot: bool | None) -> int:
        return sum(group.gpus_held for group in self._view.groups() if spot is None or group.spec.spot == spot)

    def _check(self, spec: EngineSpec, cluster: ClusterOptions) -> None:
        require_runnable(spec, cluster, self._namespace)
        pod_template(spec, cluster, {})
        if spec.gpus:
            on_each = spec.gpus // nodes_of(spec, cluster)
            Gpus(self._view.nodes(), cluster.gpu_resource).require(on_each, cluster.selector(spot=spec.spot))

    def _started(self, spec: EngineSpec, cluster: ClusterOptions) -> Engine:
        known = self._present(spec, cluster)
        if known is not None:
            if spec.engine_id in known.ledger:
                return self.observe(spec.engine_id)
            require_same(spec, known)
        there = Gpus(self._view.nodes(), cluster.gpu_resource).all(cluster.selector(spot=spec.spot))
        free = max(0, there - self._held(spec.spot))
        if free < spec.gpus:
            raise Unavailable(f"no {spec.gpus} GPUs for engine {spec.engine_id}", why=f"{free} are free on the cluster")
        new = {spec.engine_id: Entry(started_at=self._clock())}
        if known is None:
            return engine_of(self._writer.create(spec, cluster, new), spec.engine_id)
        return engine_of(self._writer.update(known, {**known.ledger, **new})._replace(pods={}), spec.engine_id)

    def _present(self, spec: EngineSpec, cluster: ClusterOptions) -> Group | None:
        """Return the group that an engine is to be in, as the server has it now, None when there is none yet."""
        present = self._door.get(*self._where(spec, cluster))
        require_startable(present)
        if present is None:
            return None
        self._view.heard(present)
        return group_of(present)

    def _where(self, spec: EngineSpec, cluster: ClusterOptions) -> tuple[Place, str]:
        if nodes_of(spec, cluster) > 1:
            return self._view.sets_at, set_name(spec.engine_id)
        return self._view.deployments_at, group_name(spec.owner, spot=spec.spot)

    def _changed(self, group: Group, change: Change) -> Group:
        """Write what a change makes of the ledger, looking again when somebody else was faster."""
        fresh: Json | None = None
        for _ in attempts():
            ledger = change(group.ledger)
            if ledger == group.ledger:
                return group
            try:
                return self._writer.update(group, ledger)
            except StaleVersion:
                fresh = self._door.get(self._view.place_of(group), group.name)
                if fresh is None:
                    raise NotFound(f"{group.name} is gone", why="somebody deleted it") from None
                self._view.heard(fresh)
                group = group.as_written(fresh)
        raise Unavailable(f"{group.name} is not changed", why=overtaken(fresh))

    def _moved_on(self, group: Group) -> Group:
        nodes = self._view.node_names()
        around = Around(
            now=self._clock(),
            patience=self._patience,
            start_timeout_s=group.spec.starts_within_s,
            lost_nodes=nodes.lost,
            ready_nodes=nodes.ready,
            refused_pods=group.refused_pods,
            log=group.spec.driver.log,
            tail=self._tail,
            workers=group.workers,
        )
        try:
            moved = self._changed(group, lambda ledger: moved_on(ledger, group.pods, around))
        except NotFound:
            return group._replace(ledger={})
        going = to_delete(moved.ledger, moved.pods, around, grace_s=moved.grace_s)
        for name, seconds in going:
            self._writer.delete_pod(name, grace_s=seconds)
        return moved

    def _tail(self, sight: PodSight) -> str:
        """Return the end of a container's log; of its status, which holds the last 2 KiB, where no log can be read."""
        try:
            said = self._door.log(
                self._view.pods_at,
                sight.name,
                container=CONTAINER,
                previous=sight.running_since is not None,
                limit_bytes=_LOG_BYTES,
            )
        except FleetuneError:
            return sight.exit_message
        return said if len(said) < _LOG_BYTES else f"{said}\n{sight.exit_message}"  # a server cuts the end off
