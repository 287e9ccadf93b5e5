"""Says at the end of a run how many tests of a contract ran on each thing that fulfils it."""

from __future__ import annotations

import re
from collections import Counter

import pytest

_SUITE = re.compile(r"(?:tests/)?contract/(test_(?:fleet|kubernetes|traffic)\w*)\.py::")
_SUBJECT = re.compile(r"[\[-](stand-in|real-server|fake|processes)\b")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    passed = [str(report.nodeid) for report in terminalreporter.stats.get("passed", []) if report.when == "call"]
    found = [(suite[1], subject[1]) for e in passed if (suite := _SUITE.match(e)) and (subject := _SUBJECT.search(e))]
    for (suite_name, name), count in sorted(Counter(found).items()):
        terminalreporter.write_line(f"{suite_name} on {name}: {count} passed")
