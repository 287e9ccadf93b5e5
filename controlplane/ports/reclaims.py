"""Notices that what engines run on is taken back: spot capacity, or a host that goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from controlplane.domain.operations.spot import Notice


class ReclaimNotices(Protocol):
    """Where notices come from."""

    def notices(self) -> Sequence[Notice]:
        """Return the notices that stand now, in a fixed order. Raises Unavailable when they cannot be asked for."""
