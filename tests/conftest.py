"""Sets how properties are tried, and says at a run's end how many tests of a contract ran on each thing fulfilling it.

The same examples at every run: whether a commit lands must not be a matter of luck. New ones are looked for by
`make explore`; what it finds becomes an `@example` or a test of its own.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.threads import left_of, watchers

_HOWEVER_BUSY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("repeated", _HOWEVER_BUSY, derandomize=True)
settings.register_profile("exploring", _HOWEVER_BUSY, derandomize=False)
settings.load_profile("repeated")

_SUITE = re.compile(r"(?:tests/)?contract/(test_(?:fleet|kubernetes|traffic)\w*)\.py::")
_SUBJECT = re.compile(r"[\[-](stand-in|real-server|fake|processes)\b")


@pytest.fixture(autouse=True, scope="module")
def _no_watch_outlives_its_module() -> Iterator[None]:
    """A watch that nobody ends asks a server that is gone again and again, within the tests of others."""
    before = watchers()
    yield
    left = left_of(before)
    assert not left, f"still running after the module that started them: {', '.join(left)}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    passed = [str(report.nodeid) for report in terminalreporter.stats.get("passed", []) if report.when == "call"]
    found = [(suite[1], subject[1]) for e in passed if (suite := _SUITE.match(e)) and (subject := _SUBJECT.search(e))]
    for (suite_name, name), count in sorted(Counter(found).items()):
        terminalreporter.write_line(f"{suite_name} on {name}: {count} passed")
