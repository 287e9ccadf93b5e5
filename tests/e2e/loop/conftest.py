"""Whole loops take as long as the machine lets them: only what hangs is cut."""

from __future__ import annotations

import pytest

HANGS_S = 1800


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.timeout(HANGS_S))
