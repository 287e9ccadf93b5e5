"""Whether the twin is compiled is known without numba, and wrong only on the safe side."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tuner.twin.kept import sources
from tuner.twin.precompile import FOLDER_VARIABLE, is_compiled, precompile

WRITTEN = max(source.stat().st_mtime for source in sources())


@pytest.mark.parametrize(("age_s", "compiled"), [(-60, False), (60, True)])
def test_only_what_is_newer_than_all_its_sources_counts(tmp_path: Path, age_s: float, compiled: bool) -> None:
    index = tmp_path / "compiled.run-41.py311.nbi"
    index.touch()
    os.utime(index, (WRITTEN + age_s, WRITTEN + age_s))
    assert is_compiled(tmp_path) is compiled


def test_the_folder_that_numba_is_told_to_keep_its_files_in_is_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    assert not is_compiled()
    (kept := tmp_path / "twin_1a2b").mkdir()
    (kept / "compiled.run-41.py311.nbi").touch()
    assert is_compiled()


def test_an_empty_folder_is_not_compiled(tmp_path: Path) -> None:
    assert not is_compiled(tmp_path)


def test_compiling_leaves_nothing_to_compile() -> None:
    precompile()
    from tuner.twin.compiled import run

    stats = run.stats  # type: ignore[attr-defined]  # numba's dispatcher, which the decorator's type hides
    before = sum(stats.cache_misses.values())
    precompile()
    assert sum(run.stats.cache_misses.values()) == before  # type: ignore[attr-defined]
