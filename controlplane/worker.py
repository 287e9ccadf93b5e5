"""The loops of the long-running processes. A loop survives expected errors and says so."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable

from controlplane.domain.errors import FleetuneError
from controlplane.telemetry.lasting import Lasting

log = logging.getLogger(__name__)


def repeat(one_pass: Callable[[], bool], *, every_s: float, stop: threading.Event) -> None:
    """Call `one_pass` until `stop` is set; at once again when it returns True (it did something), else after `every_s`.

    An expected error is logged, once while it lasts, and the next pass tries again: the saved state is the truth, so
    nothing is lost.
    """
    lasting = Lasting(log)
    while not stop.is_set():
        if not _guarded(one_pass, lasting):
            stop.wait(every_s)


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
