"""Telling people."""

from __future__ import annotations

from typing import Protocol

from controlplane.domain.operations.notify import Notice, NotifyTarget


class Notifier(Protocol):
    def check(self, target: NotifyTarget) -> None:
        """Look whether a target's secrets are there; nobody is asked. Raises InvalidInput where one is not."""

    def send(self, target: NotifyTarget, notice: Notice) -> None:
        """Tell a target of one thing. Raises Unavailable when it did not take it, InvalidInput without its secret."""
