"""How often a guarded write is tried anew when others wrote in between, how soon, and who they were."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from controlplane.adapters.fleet_kubernetes.wire import AGENT

_PAUSES_S = (0.0, 0.0, 0.01, 0.02, 0.04, 0.08, 0.16, 0.2, 0.25)
"""Controllers tell what came of a change in a burst of writes some milliseconds apart; the first third of a second
outlasts it. One that writes ten times a second for ever is met by the later ones. A pass is delayed by about a second.
"""
ATTEMPTS = len(_PAUSES_S)


def attempts(sleep: Callable[[float], None] = time.sleep, chance: Callable[[], float] = random.random) -> Iterator[int]:
    """Yield the number of each attempt, the first at once and the later ones after ever longer pauses.

    A pause is half to one and a half times as long by `chance` (0 to 1): whoever writes at a beat is not met at it.
    """
    for number, pause_s in enumerate(_PAUSES_S):
        if pause_s:
            sleep(pause_s * (0.5 + chance()))
        yield number


def overtaken(value: Mapping[str, Any] | None) -> str:
    """Return why a write was given up, naming who wrote an object last beside us, where it says so."""
    found = "somebody else" if value is None else _last_writer(value) or "somebody else"
    return f"{found} wrote to it before each of {ATTEMPTS} attempts; it is tried again"


def _last_writer(value: Mapping[str, Any]) -> str | None:
    entries = value["metadata"].get("managedFields") or []
    # An entry without a time is not known to be young; of those of the same second the last is as good as any.
    others = sorted((e for e in entries if e.get("manager") != AGENT), key=lambda entry: str(entry.get("time", "")))
    if not others:
        return None
    last = others[-1]
    return f"{last.get('manager')}{' (its status)' if last.get('subresource') == 'status' else ''}"
