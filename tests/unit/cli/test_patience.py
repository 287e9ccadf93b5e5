"""What takes a while says so, also where nobody sees a spinner."""

from __future__ import annotations

import io
import threading

from rich.console import Console

from controlplane.cli.tables.patience import working


class Page(io.StringIO):
    """Tells when something was written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = threading.Event()

    def write(self, text: str) -> int:
        length = super().write(text)
        self.written.set()
        return length


def test_without_a_terminal_what_takes_longer_is_said_in_one_line() -> None:
    page = Page()
    with working("asking the twin", after_s=0, on=Console(file=page)):
        assert page.written.wait(240)
    assert page.getvalue() == "asking the twin …\n"


def test_what_is_over_sooner_says_nothing() -> None:
    page = Page()
    with working("asking the twin", after_s=3600, on=Console(file=page)):
        pass
    assert page.getvalue() == ""


def test_on_a_terminal_it_is_shown_at_once() -> None:
    page = Page()
    with working("asking the twin", after_s=3600, on=Console(file=page, force_terminal=True, width=80)):
        assert page.written.wait(240)
    assert "asking the twin" in page.getvalue()
