"""Notices of reclaim that a test gives and takes back."""

from __future__ import annotations

from collections.abc import Sequence

from controlplane.domain.errors import Unavailable
from controlplane.domain.operations.spot import Notice


class FakeNotices:
    """The notices port in memory. `is_silent` keeps them from being asked for."""

    def __init__(self) -> None:
        self.given: list[Notice] = []
        self.is_silent = False

    def notices(self) -> Sequence[Notice]:
        if self.is_silent:
            raise Unavailable("nobody answers")
        return list(self.given)
