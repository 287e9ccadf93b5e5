"""`requirements.lock` holds what each Python 3.11 needs: it is compiled on one of them, Debian 12's own is 3.11.2."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import cast

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCK = Path(__file__).resolve().parents[3] / "requirements.lock"
LOCKED = [Requirement(line) for line in LOCK.read_text().splitlines() if line and not line.startswith(("#", "-"))]


def _environment(version: str) -> dict[str, str]:
    return {**cast(Mapping[str, str], default_environment()), "python_full_version": version, "extra": ""}


def _installs(version: str) -> set[str]:
    environment = _environment(version)
    return {canonicalize_name(each.name) for each in LOCKED if each.marker is None or each.marker.evaluate(environment)}


def _asked_for(version: str, locked: set[str]) -> Iterator[tuple[str, str]]:
    """What each locked distribution asks for on that Python, whichever extra is wanted aside."""
    environment = _environment(version)
    for distribution in distributions():
        if canonicalize_name(distribution.metadata["Name"]) not in locked:
            continue
        for each in map(Requirement, distribution.requires or []):
            if each.marker is None or each.marker.evaluate(environment):
                yield distribution.metadata["Name"], canonicalize_name(each.name)


@pytest.mark.parametrize("version", [f"3.11.{patch}" for patch in (0, 2, 3, 7, 15)])
def test_every_python_finds_all_that_its_packages_ask_for(version: str) -> None:
    locked = _installs(version)
    assert len(locked) > 100
    missing = {(who, what) for who, what in _asked_for(version, locked) if what not in locked}
    assert not missing, "pip-compile leaves out what its own Python does not need: add it with a marker"
