"""The loops of the long-running processes. A loop survives expected errors and says so."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from controlplane.domain.errors import FleetuneError

log = logging.getLogger(__name__)


def repeat(one_pass: Callable[[], bool], *, every_s: float, stop: threading.Event) -> None:
    """Call `one_pass` until `stop` is set; at once again when it returns True (it did something), else after `every_s`.

    An expected error is logged and the next pass tries again: the saved state is the truth, so nothing is lost.
    """
    while not stop.is_set():
        if not _guarded(one_pass):
            stop.wait(every_s)


def _guarded(one_pass: Callable[[], bool]) -> bool:
    try:
        return one_pass()
    except FleetuneError as error:
        log.warning("%s: %s", type(error).__name__, error)
        return False
