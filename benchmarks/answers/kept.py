"""Judged studies kept line by line beside a report, so that a run that was cut goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.answers.intervals import Stated
from benchmarks.answers.score import Score, Verdict

_DECIDING = ("benchmarks/answers", "controlplane", "loadtests", "tests/fakes", "tuner")


class Job(NamedTuple):
    """One study to run."""

    scenario: str
    budget: int
    seed: int


class Kept:
    """The studies in one file, by what was run. None at `path`: nothing is kept.

    A study by other code than what runs now is another study: its line stays, and it is run again.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def scores(self, wanted: Collection[Job]) -> dict[Job, Score]:
        """Return those of the wanted studies that are there. A last line that a kill cut short is left out."""
        if self._path is None or not self._path.exists():
            return {}
        rows = [row for line in self._path.read_text().splitlines() if (row := _row(line)) is not None]
        found = {Job(*row["job"]): _score(row["score"]) for row in rows if row["code"] == code_hash()}
        return {job: score for job, score in found.items() if job in wanted}

    def add(self, scores: Mapping[Job, Score]) -> None:
        """Append studies that ended."""
        if self._path is None:
            return
        rows = [{"code": code_hash(), "job": job, "score": score._asdict()} for job, score in scores.items()]
        with self._path.open("a+") as file:
            file.seek(max(0, file.tell() - 1))
            cut = file.read(1) not in ("", "\n")
            file.write("\n" * cut + "".join(json.dumps(row) + "\n" for row in rows))


@cache
def code_hash() -> str:
    """Return the hash of all code that may decide a study."""
    root = Path(__file__).resolve().parents[2]
    found = hashlib.sha256()
    for path in sorted(path for folder in _DECIDING for path in (root / folder).rglob("*.py")):
        found.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:16]


def _row(line: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return found


def _score(raw: Mapping[str, Any]) -> Score:
    stated = tuple(Stated(*each) for each in raw["stated"])
    return Score(**{**raw, "verdict": Verdict(raw["verdict"]), "stated": stated})
