"""Something that takes a while says so: a spinner with its seconds on a terminal, one line elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

SAID_AFTER_S = 2.0


@contextmanager
def working(what: str, *, after_s: float = SAID_AFTER_S, on: Console | None = None) -> Iterator[None]:
    """Show on stderr that `what` is under way, until the block ends; without a terminal only when it takes longer."""
    console = on or Console(stderr=True)
    if console.is_terminal:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            bar.add_task(what)
            yield
        return
    timer = threading.Timer(after_s, console.print, [f"{what} …"], {"soft_wrap": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
