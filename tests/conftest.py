"""Sets how properties are tried, and says at a run's end how many tests of a contract ran on each thing fulfilling it.

The same examples at every run: whether a commit lands must not be a matter of luck. New ones are looked for by
`make explore`; what it finds becomes an `@example` or a test of its own.
"""

from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import HealthCheck, settings

_HOWEVER_BUSY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("repeated", _HOWEVER_BUSY, derandomize=True)
settings.register_profile("exploring", _HOWEVER_BUSY, derandomize=False)
settings.load_profile("repeated")

_SUITE = re.compile(r"(?:tests/)?contract/(test_(?:fleet|kubernetes|traffic)\w*)\.py::")
_SUBJECT = re.compile(r"[\[-](stand-in|real-server|fake|processes)\b")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    passed = [str(report.nodeid) for report in terminalreporter.stats.get("passed", []) if report.when == "call"]
    found = [(suite[1], subject[1]) for e in passed if (suite := _SUITE.match(e)) and (subject := _SUBJECT.search(e))]
    for (suite_name, name), count in sorted(Counter(found).items()):
        terminalreporter.write_line(f"{suite_name} on {name}: {count} passed")
