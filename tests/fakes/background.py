"""What goes on beside a test until it is stopped."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod


class Background(ABC):
    """Runs `_run` on a thread from its making on; `_run` returns soon after `_stopping` is set."""

    def _begin(self) -> None:
        """Call it last, when everything is there that `_run` needs."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    @abstractmethod
    def _run(self) -> None: ...
