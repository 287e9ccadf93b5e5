"""Hands out the files that take longest first: a process that gets one of them last would be waited for by the others.

For `--dist loadfile --no-loadscope-reorder`; left to itself, xdist begins with the files of most tests.
"""

from __future__ import annotations

import pytest

LONGEST_FIRST = (
    "test_crashes.py",  # waits more than it computes, as all of `loop` does; those of `dashboard` keep a core busy
    "test_pages.py",
    "test_killed_workers.py",
    "test_shared_study.py",
    "test_replays.py",
    "test_bad_canaries.py",
    "test_real_inference.py",
    "test_load_matched.py",
    "test_storm.py",
    "test_buttons.py",
    "test_walk.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    name = item.path.name
    return LONGEST_FIRST.index(name) if name in LONGEST_FIRST else len(LONGEST_FIRST)
