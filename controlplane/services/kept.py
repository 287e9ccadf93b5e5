"""What a part of the control plane remembers between its passes: a value of its own, in a setting of the store."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pydantic import ValidationError

from controlplane.ports.store import Store, Versioned

T = TypeVar("T")


def read_kept(store: Store, setting: str, read: Callable[[str], T], otherwise: T) -> Versioned[T]:
    """Return what is kept; `otherwise` when nothing is (version 0), or what another version of Fleetune wrote."""
    saved = store.read_setting(setting)
    if saved is None:
        return Versioned(otherwise, 0)
    try:
        return Versioned(read(saved.value), saved.version)
    except ValidationError:
        return Versioned(otherwise, saved.version)
