"""One kind of object, kept up to date by a watch: listed once, then told what changed, listed again only on 410."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence

from controlplane.adapters.fleet_kubernetes.door import OPENED, Door, Json, Place
from controlplane.adapters.fleet_kubernetes.hangup import Hangup
from controlplane.adapters.fleet_kubernetes.kept import whole
from controlplane.adapters.fleet_kubernetes.refusals import Expired
from controlplane.domain.errors import FleetuneError, Unavailable

_WATCH_S = 240
_AGAIN_S = 0.5
_LONGEST_PAUSE_S = 5.0
_FIRST_S = 20.0
_END_S = 5.0
_GONE = 1000  # names remembered, so that an answer that comes late brings nothing back


class Watched:
    """Starts with the first look. Of each object is known what `keep` returns of it. `stale_s` is how long the server
    may be silent before what is known counts as old.
    """

    def __init__(
        self,
        door: Door,
        place: Place,
        *,
        selector: str = "",
        keep: Callable[[Json], Json] = whole,
        stale_s: float = 10.0,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._door, self._place, self._stale_s = door, place, stale_s
        self._query = {"labelSelector": selector} if selector else {}
        self._steady, self._keep = steady, keep
        self._lock = threading.Lock()
        self._items: dict[str, Json] = {}
        self._gone: dict[str, int] = {}
        self._answered, self._hangup = threading.Event(), Hangup()
        self._is_listed = False
        self._from = ""  # the version to watch from
        self._broken_since: float | None = None
        self._problem: FleetuneError | None = None
        self._thread: threading.Thread | None = None
        self.listings = 0

    def items(self) -> Sequence[Json]:
        """Return every object as last heard of. Raises what keeps it from being known: Unavailable, Forbidden, ...."""
        self._start()
        self._answered.wait(_FIRST_S)
        broken = self._broken_since
        if not self._is_listed or (broken is not None and self._steady() - broken >= self._stale_s):
            raise self._problem or Unavailable(f"no answer yet about {self._place.named()}")
        with self._lock:
            return list(self._items.values())

    def ask(self) -> None:
        """List now: what another process wrote a moment ago may not have been told yet."""
        self._listed()

    def heard(self, value: Json) -> None:
        """Take in an object just written, unless a newer one is known."""
        name, version = value["metadata"]["name"], _version(value)
        with self._lock:
            known = self._items.get(name)
            if version > max(self._gone.get(name, 0), 0 if known is None else _version(known)):
                self._items[name] = self._keep(value)

    def hang_up(self) -> None:
        """Let the watch end now, or not begin."""
        self._hangup.pull()
        self._answered.set()

    def wait(self, seconds: float) -> None:
        """Return when the watch has ended, or the time is over."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._hangup.is_pulled:
                self._thread = threading.Thread(target=self._run, name=f"watch {self._place.plural}", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        pause_s = _AGAIN_S
        while not self._hangup.is_pulled:
            try:
                self._from = self._from or self._listed()
                if not self._watched(self._from):  # a watch that ends at once is not asked for all the time
                    self._hangup.wait(_AGAIN_S)
                pause_s = _AGAIN_S
            except Expired:
                self._from = ""
            except FleetuneError as error:
                self._broken(error)
                self._hangup.wait(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _listed(self) -> str:
        with self._lock:
            newest_before = self._newest()
        found = self._door.list(self._place, **self._query)
        self.listings += 1
        version = str(found["metadata"]["resourceVersion"])
        with self._lock:
            if int(version) < newest_before:  # the server's store was put back to an earlier day
                self._items, self._gone = {}, {}
            listed = {each["metadata"]["name"]: self._keep(each) for each in found["items"]}
            fresh = {name: each for name, each in listed.items() if _version(each) > self._gone.get(name, 0)}
            # What was written and heard of after this list was made stays.
            newer = {name: each for name, each in self._items.items() if _version(each) > int(version)}
            self._items = {**fresh, **newer}
        self._well()
        return version

    def _newest(self) -> int:
        return max([*map(_version, self._items.values()), *self._gone.values(), int(self._from or 0)], default=0)

    def _watched(self, version: str) -> bool:
        """Take in what happens until the watch ends, and where to go on from; say whether anything did."""
        has_heard = False
        for kind, value in self._door.watch(self._place, version, seconds=_WATCH_S, hangup=self._hangup, **self._query):
            self._well()
            if kind == OPENED:
                continue
            if kind == "DELETED":
                self._drop(value)
            elif kind != "BOOKMARK":
                self.heard(value)
            self._from, has_heard = str(value["metadata"]["resourceVersion"]), True
        return has_heard

    def _drop(self, value: Json) -> None:
        """Forget an object, unless a later one of its name is known: a watch that broke tells some things twice."""
        name, version = value["metadata"]["name"], _version(value)
        with self._lock:
            known = self._items.get(name)
            if known is not None and _version(known) <= version:
                del self._items[name]
            self._gone[name] = max(self._gone.pop(name, 0), version)
            if len(self._gone) > _GONE:
                del self._gone[next(iter(self._gone))]  # the oldest

    def _well(self) -> None:
        self._broken_since = self._problem = None
        self._is_listed = True
        self._answered.set()

    def _broken(self, error: FleetuneError) -> None:
        self._problem = error
        if self._broken_since is None:
            self._broken_since = self._steady()
        self._answered.set()


def end(*watches: Watched) -> None:
    """End watches for good. One whose server just then says nothing at all ends later, within its time-out of 15 s."""
    _hang_up(watches)
    give_up_s = time.monotonic() + _END_S
    for each in watches:
        each.wait(max(0.0, give_up_s - time.monotonic()))


def end_with(owner: object, *watches: Watched) -> None:
    """Let watches end when nobody holds their owner any more, should nobody close it."""
    weakref.finalize(owner, _hang_up, watches).atexit = False  # threads end with their process anyway


def _hang_up(watches: Sequence[Watched]) -> None:
    for each in watches:
        each.hang_up()


def by_label(values: Sequence[Json], label: str) -> Mapping[str, list[Json]]:
    """Return objects under the value of one of their labels."""
    found: dict[str, list[Json]] = {}
    for value in values:
        found.setdefault(value["metadata"].get("labels", {}).get(label, ""), []).append(value)
    return found


def _version(value: Json) -> int:
    """Versions of one server are numbers that grow (KEP-5504)."""
    return int(value["metadata"]["resourceVersion"])
