"""`pyproject.toml` says of each dependency which file imports it, and is right: what nothing imports is none."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("controlplane", "tuner", "loadtests", "dashboards")
LINE = re.compile(r'^\s*"(?P<name>[A-Za-z0-9._-]+)(?:\[[^\]]*\])?[^"]*",?\s*#\s*(?P<where>[^:]+):', re.MULTILINE)
BY_NAME_ONLY = {"psycopg"}
"""Loaded by another library, by the name in a URL."""


class Claim(NamedTuple):
    """A dependency and the files or folders that its comment names."""

    name: str
    places: tuple[str, ...]


def text() -> str:
    return (ROOT / "pyproject.toml").read_text()


def run_time() -> set[str]:
    return {re.split(r"[\[<>=~! ]", each)[0] for each in tomllib.loads(text())["project"]["dependencies"]}


CLAIMS = [
    Claim(found["name"], tuple(place.strip() for place in found["where"].split(",")))
    for found in LINE.finditer(text())
    if found["name"] in run_time()
]


def modules_of(distribution: str) -> set[str]:
    """What is imported when a distribution is used, e.g. yaml for pyyaml."""
    return {module for module, owners in installed() if canonicalize_name(distribution) in owners}


@cache
def installed() -> list[tuple[str, set[str]]]:
    return [
        (module, {canonicalize_name(owner) for owner in owners}) for module, owners in packages_distributions().items()
    ]


@cache
def source(path: Path) -> str:
    return path.read_text()


def imports(place: Path, distribution: str) -> bool:
    files = [place] if place.is_file() else sorted(place.rglob("*.py"))
    names = "|".join(re.escape(module) for module in modules_of(distribution))
    wanted = rf"\b({names})\b" if distribution in BY_NAME_ONLY else rf"(?m)^\s*(from|import)\s+({names})\b"
    return any(re.search(wanted, source(file)) for file in files)


def test_every_dependency_says_where_it_is_imported() -> None:
    assert {claim.name for claim in CLAIMS} == run_time()


@pytest.mark.parametrize("claim", CLAIMS, ids=[claim.name for claim in CLAIMS])
def test_the_files_it_names_exist_and_import_it(claim: Claim) -> None:
    missing = [place for place in claim.places if not (ROOT / place).exists()]
    assert not missing
    assert [place for place in claim.places if not imports(ROOT / place, claim.name)] == []
