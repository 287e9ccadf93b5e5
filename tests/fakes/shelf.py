"""Values of one type, guarded by their versions: what the Store port in memory is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from controlplane.domain.base import Value
from controlplane.domain.errors import NotFound, StaleVersion
from controlplane.ports.store import Versioned

V = TypeVar("V", bound=Value)
Key = tuple[str, ...]


class Shelf(Generic[V]):
    """Values of one type in the order of their first save."""

    def __init__(self, noun: str, key: Callable[[V], Key]) -> None:
        self._noun = noun
        self._key = key
        self.rows: dict[Key, Versioned[V]] = {}

    def get(self, *key: str) -> Versioned[V]:
        if key not in self.rows:
            raise NotFound(f"no {self._noun} '{'/'.join(key)}'")
        return self.rows[key]

    def save(self, value: V, version: int) -> int:
        present = self.rows.get(self._key(value))
        if (present.version if present else 0) != version:
            raise StaleVersion(f"{self._noun} '{'/'.join(self._key(value))}' was saved by somebody else")
        self.rows[self._key(value)] = Versioned(value, version + 1)
        return version + 1

    def newest(self, wanted: Callable[[V], bool] = lambda _: True, limit: int | None = None) -> list[Versioned[V]]:
        return [row for row in reversed(self.rows.values()) if wanted(row.value)][:limit]
