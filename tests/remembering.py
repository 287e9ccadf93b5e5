"""How much something holds: its collections counted, not the memory of the process they are in."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence, Set
from typing import Any

PORTS = ("_store", "_fleet", "_router", "_records", "_clock", "_flights", "_pressures", "_news", "_monotonic")
PACKAGES = ("controlplane.services", "controlplane.domain", "controlplane.gateway")


def remembered(holder: object) -> Counter[str]:
    """Return how much is in each collection that something of ours holds, by where it hangs; ports are left out."""
    found: Counter[str] = Counter()
    seen: set[int] = set()
    waiting: list[tuple[str, Any]] = [("", holder)]
    while waiting:
        path, value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Mapping):
            found[path] += len(value)
            waiting += [(f"{path}[]", each) for each in value.values()]
        elif isinstance(value, Set | deque) or (isinstance(value, Sequence) and not isinstance(value, str | bytes)):
            found[path] += len(value)
            waiting += [(f"{path}[]", each) for each in value]
        elif type(value).__module__.startswith(PACKAGES):
            own = {**getattr(value, "__dict__", {})}
            waiting += [(f"{path}.{name}", each) for name, each in own.items() if name not in PORTS]
    return found


def grown(before: Counter[str], after: Counter[str]) -> dict[str, int]:
    """Return what has more in it than before, by where it hangs."""
    return {path: after[path] - before[path] for path in after if after[path] > before[path]}
