"""A worker's sign of life, given by a thread of its own: whatever the worker waits for, its claim does not lapse."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import TracebackType

from controlplane.domain.errors import FleetuneError
from controlplane.telemetry.lasting import Lasting

log = logging.getLogger(__name__)

BEAT_EVERY_S = 2.0


class Heartbeat:
    """Calls `beat` every so often while inside. `beat` returns why to stop, None to go on; `told` is its last word.

    A store that cannot be reached for a moment is no reason: the next beat tries again.
    """

    def __init__(self, beat: Callable[[], str | None], *, every_s: float = BEAT_EVERY_S) -> None:
        self._beat = beat
        self._every_s = every_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="heartbeat", daemon=True)
        self.told: str | None = None

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def _go_on(self) -> None:
        lasting = Lasting(log)
        while self.told is None and not self._over.wait(self._every_s):
            try:
                self.told = self._beat()
                lasting.tell(())
            except FleetuneError as error:
                lasting.tell([f"no sign of life could be given: {error}"])
