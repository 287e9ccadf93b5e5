"""Code that was compiled and kept is used only as long as every source of the twin is what it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuner.twin import compiled, compiled_scheduler, kept

HERE = kept.HERE


@pytest.mark.parametrize(
    "changed", ["steptime.py", "compiled_steptime.py", "compiled_cache.py", "compiled_state.py", "compiled.py"]
)
def test_a_change_of_any_source_is_another_stamp(tmp_path: Path, changed: str) -> None:
    copies = [tmp_path / file.name for file in kept.sources()]
    for copy in copies:
        copy.write_bytes((HERE / copy.name).read_bytes())
    assert kept.stamp_of(copies) == kept.stamp_of(kept.sources())
    (tmp_path / changed).write_text((HERE / changed).read_text() + "\nX = 1\n")
    assert kept.stamp_of(copies) != kept.stamp_of(kept.sources())


@pytest.mark.parametrize("function", [compiled.run, compiled_scheduler.schedule])
def test_every_compiled_function_asks_for_all_sources(function: object) -> None:
    stamp = function._cache._cache_file._source_stamp  # type: ignore[attr-defined]
    assert kept.stamp_of(kept.sources()) in stamp
