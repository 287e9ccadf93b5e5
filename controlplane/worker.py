"""The loops of the long-running processes. A loop survives expected errors and says so."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable

from controlplane.domain.errors import FleetuneError
from controlplane.telemetry.lasting import Lasting

log = logging.getLogger(__name__)


class Bell:
    """Ends the pause of a loop: rung from any thread, heard once."""

    def __init__(self) -> None:
        self._rung = threading.Event()

    def ring(self) -> None:
        self._rung.set()

    def wait(self, seconds: float) -> None:
        """Return when it was rung since the last time, or after so many seconds."""
        self._rung.wait(seconds)
        self._rung.clear()


def repeat(one_pass: Callable[[], bool], *, every_s: float, stop: threading.Event, bell: Bell | None = None) -> None:
    """Call `one_pass` until `stop` is set; at once again when it returns True (it did something), else after `every_s`
    or when the bell rings. With a bell the end may come `every_s` after `stop`.

    An expected error is logged, once while it lasts, and the next pass tries again: the saved state is the truth, so
    nothing is lost.
    """
    lasting, pause = Lasting(log), stop.wait if bell is None else bell.wait
    while not stop.is_set():
        if not _guarded(one_pass, lasting):
            pause(every_s)


def telling(run: Callable[[], Iterable[str]], to: logging.Logger) -> Callable[[], bool]:
    """Return a pass for `repeat` that tells what `run` could not do, once while it lasts."""
    lasting = Lasting(to)

    def one() -> bool:
        lasting.tell(run())
        return False

    return one


def _guarded(one_pass: Callable[[], bool], lasting: Lasting) -> bool:
    problems: list[str] = []
    try:
        return one_pass()
    except FleetuneError as error:
        problems.append(f"{type(error).__name__}: {error}")
        return False
    finally:
        lasting.tell(problems)
