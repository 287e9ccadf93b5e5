"""Ports that kill their caller: at the k-th call of any of them, before or after the call took effect."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any, TypeVar, cast

P = TypeVar("P")
_READS = ("get_", "list", "read_", "actual", "free_gpus", "studies_to_apply", "place", "follow", "model")
"""How the names of calls begin that change nothing outside; whatever is called otherwise may change something."""


class Killed(BaseException):
    """Stands for kill -9: nothing of the caller runs on. Not an Exception, so that nothing catches it."""


class Moment(StrEnum):
    BEFORE = "before"  # the call never reached the port
    AFTER = "after"  # it took effect, but the caller never learnt of it


class Killer:
    """Counts the calls of every port it wraps and kills at number `at` (1 is the first, 0 is never).

    `changes` are the numbers of those that may change something. What a caller leaves behind that dies at a read, it
    leaves too where it dies after the change before, or before the next: these are all the deaths there are.
    """

    def __init__(self, *, at: int, moment: Moment) -> None:
        self._at = at
        self._moment = moment
        self.calls = 0
        self.changes: list[int] = []

    def wrap(self, port: P) -> P:
        """Return the port with every method under watch."""
        return cast(P, _Watched(port, self))

    def call(self, method: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        self.calls += 1
        if not method.__name__.startswith(_READS):
            self.changes.append(self.calls)
        if 0 < self._at < self.calls:  # of a dead process not even the clearing up reaches the world
            raise Killed
        fatal = self.calls == self._at
        if fatal and self._moment is Moment.BEFORE:
            raise Killed
        answer = method(*args, **kwargs)
        if fatal:
            raise Killed
        return answer


class _Watched:
    def __init__(self, port: object, killer: Killer) -> None:
        self._port = port
        self._killer = killer

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)
        return lambda *args, **kwargs: self._killer.call(method, args, kwargs)
