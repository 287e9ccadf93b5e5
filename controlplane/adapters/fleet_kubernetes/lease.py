"""Leadership by a Lease of the cluster: looked at, taken and renewed in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from controlplane.adapters.fleet_kubernetes.door import Door, Json, Place
from controlplane.domain.errors import Conflict, FleetuneError
from controlplane.domain.leadership import Candidate, LeaseRecord, Move, Terms, next_move
from controlplane.host.clock import utc_now
from controlplane.ports import Clock


class LeaseElection:
    """One candidate for a Lease. `on_end` is called once, when it led and does not any more."""

    def __init__(
        self,
        door: Door,
        *,
        namespace: str,
        name: str,
        identity: str,
        on_end: Callable[[str], None],
        terms: Terms = Terms(),  # noqa: B008 - immutable
        steady: Callable[[], float] = time.monotonic,
        wall: Clock = utc_now,
    ) -> None:
        self._door, self._place, self._name = door, Place("apis/coordination.k8s.io/v1", "leases", namespace), name
        self._terms, self._steady, self._wall, self._on_end = terms, steady, wall, on_end
        self._candidate = Candidate(identity=identity)
        self._leading, self._stopping = threading.Event(), threading.Event()
        self.problem: str | None = None

    def wait(self, timeout_s: float | None = None) -> bool:
        """Return once this candidate leads, or False when the time is over."""
        return self._leading.wait(timeout_s)

    def run(self) -> None:
        """Go on until `stop`, or until the lead is lost. For a thread."""
        while not self._stopping.is_set() and self.step() is not Move.END:
            self._stopping.wait(self._terms.retry_s)

    def step(self) -> Move:
        """Look once and do what is to be done; a server that does not answer is asked again until it is too late."""
        try:
            move = self._look_and_act()
        except FleetuneError as error:
            self.problem = str(error)
            move = next_move(self._candidate, self._terms, self._steady())
        if move is Move.END and self._leading.is_set():
            self._leading.clear()
            self._on_end(self.problem or "another controller leads")
        return move

    def stop(self) -> None:
        """Let go of the lease, so that another candidate need not wait for its end."""
        self._stopping.set()
        if not self._leading.is_set():
            return
        self._leading.clear()
        try:
            present = self._door.get(self._place, self._name)
            if present is not None and present["spec"].get("holderIdentity") == self._candidate.identity:
                free = {**present["spec"], "holderIdentity": ""}
                self._door.replace(self._place, self._name, {**present, "spec": free})
        except FleetuneError:  # it ends by itself
            return

    def _look_and_act(self) -> Move:
        asked_at_s = self._steady()
        if next_move(self._candidate, self._terms, asked_at_s) is Move.END:
            return Move.END
        present = self._door.get(self._place, self._name)
        self.problem = None
        self._candidate = self._candidate.saw(_record(present), asked_at_s)
        move = next_move(self._candidate, self._terms, asked_at_s)
        if move in (Move.TAKE, Move.RENEW):
            try:
                self._write(present, asked_at_s)
            except Conflict:  # somebody else was faster: looked at again in a moment
                return Move.WAIT
        return move

    def _write(self, present: Json | None, asked_at_s: float) -> None:
        before = _record(present)
        spec = _spec(self._candidate.identity, before, present, terms=self._terms, now=_stamp(self._wall()))
        lease: Json = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": spec}
        if present is None:
            written = self._door.create(self._place, {**lease, "metadata": {"name": self._name}})
        else:
            written = self._door.replace(self._place, self._name, {**lease, "metadata": present["metadata"]})
        record = _record(written)
        assert record is not None, "a lease that was just written has a holder"
        if self._steady() - asked_at_s >= self._terms.renew_s:  # the answer came too late to count on
            return
        self._candidate = self._candidate.wrote(record, asked_at_s)
        self._leading.set()


def _record(lease: Mapping[str, Any] | None) -> LeaseRecord | None:
    spec: Mapping[str, Any] = {} if lease is None else lease.get("spec", {})
    if not spec.get("holderIdentity"):
        return None
    return LeaseRecord(
        holder=spec["holderIdentity"],
        renewed=str(spec.get("renewTime", "")),
        transitions=spec.get("leaseTransitions", 0),
    )


def _spec(identity: str, before: LeaseRecord | None, present: Json | None, *, terms: Terms, now: str) -> Json:
    held: Mapping[str, Any] = {} if present is None else present.get("spec", {})
    is_mine = before is not None and before.holder == identity
    transitions = held.get("leaseTransitions", 0)
    return {
        "holderIdentity": identity,
        "leaseDurationSeconds": round(terms.lease_s),
        "acquireTime": held.get("acquireTime", now) if is_mine else now,
        "renewTime": now,
        "leaseTransitions": transitions if is_mine or present is None else transitions + 1,
    }


def _stamp(now: datetime) -> str:
    """A server reads such times with six digits of a second only, also where they are zero."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
