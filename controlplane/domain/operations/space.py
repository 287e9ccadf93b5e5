"""Room for what an installation keeps. Pure."""

from __future__ import annotations

from typing import NamedTuple


class Space(NamedTuple):
    """What a disk has for us, bytes."""

    size: int
    free: int
