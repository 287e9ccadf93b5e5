"""How long a controller leaves an owner alone whose pods are refused: twice as long each time, unless it changes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

_FIRST_S, _LONGEST_S = 0.005, 1000.0


class _Refusal(NamedTuple):
    tries: int
    not_before_s: float
    seen: object
    why: str


class BackingOff:
    """By uid. `seen` is what a controller looks at again at once when it is another: a description, how many pods."""

    def __init__(self, *, steady: Callable[[], float] = time.monotonic) -> None:
        self._steady = steady
        self._refusals: dict[str, _Refusal] = {}

    @property
    def is_due(self) -> bool:
        """Whether somebody is to be tried again by now."""
        now_s = self._steady()
        return any(each.not_before_s <= now_s for each in self._refusals.values())

    def holds(self, uid: str, seen: object) -> str:
        """Return why an owner is left alone for now, "" when it is to be tried."""
        found = self._refusals.get(uid)
        waits = found is not None and found.seen == seen and self._steady() < found.not_before_s
        return found.why if found is not None and waits else ""

    def note(self, uid: str, seen: object, why: str) -> None:
        """Take in what came of a try: why it was refused, "" when it was not."""
        found = self._refusals.pop(uid, None)
        if why:
            tries = 1 + (0 if found is None else found.tries)
            pause_s = min(_LONGEST_S, _FIRST_S * 2**tries)
            self._refusals[uid] = _Refusal(tries, self._steady() + pause_s, seen, why)

    def keep(self, uids: set[str]) -> None:
        """Forget all others."""
        self._refusals = {uid: each for uid, each in self._refusals.items() if uid in uids}
