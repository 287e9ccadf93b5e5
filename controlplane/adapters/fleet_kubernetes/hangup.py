"""How one thread ends the watch of another: at once, whatever it waits for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

_UNREADABLE = (OSError, RuntimeError, ValueError)
"""What an answer says that has ended by itself."""


class Hangup:
    """Pulled once. An answer that is read while it `ends` it breaks off then, as if its server had gone."""

    def __init__(self) -> None:
        self._pulled, self._lock = threading.Event(), threading.Lock()
        self._answer: Any = None

    @property
    def is_pulled(self) -> bool:
        return self._pulled.is_set()

    def wait(self, seconds: float) -> None:
        """Return when it is pulled, or the time is over."""
        self._pulled.wait(seconds)

    def pull(self) -> None:
        with self._lock:
            self._pulled.set()
            self._break_off()

    @contextmanager
    def ends(self, answer: Any) -> Iterator[None]:
        """Let it end an answer of urllib3 that is read meanwhile, also when it was pulled before."""
        with self._lock:
            self._answer = answer
            if self.is_pulled:
                self._break_off()
        try:
            yield
        finally:
            with self._lock:
                self._answer = None

    def _break_off(self) -> None:
        if self._answer is not None:
            with suppress(*_UNREADABLE):
                self._answer.shutdown()
