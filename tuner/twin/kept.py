"""Which sources compiled code is made of: what was kept is good only as long as all of them are what they were."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).parent
_COMPILED_FROM_PLAIN = "steptime.py"
"""Plain Python that is compiled into its callers."""


def sources() -> list[Path]:
    """Return the files that hold what is compiled, or a constant of it."""
    return [file for file in HERE.glob("*.py") if file.name.startswith("compiled") or _compiles(file)]


def stamp_of(files: Iterable[Path]) -> str:
    """Return what names the content of these files."""
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in sorted(files))).hexdigest()


def _compiles(file: Path) -> bool:
    return file.name in ("jit.py", _COMPILED_FROM_PLAIN) or "from tuner.twin.jit import" in file.read_text()
