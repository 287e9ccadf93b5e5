"""Compile the twin for this processor ahead of its first use: about a minute of CPU, kept beside the sources, or in
the folder that numba's own variable names.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from tuner.twin.kept import sources

HERE = Path(__file__).parent
_COMPILED = "compiled.run-*.nbi"
"""numba's index of the outermost compiled function: written last, when everything it calls is there. It is believed
as long as no source of what is compiled did change."""


FOLDER_VARIABLE = "NUMBA_CACHE_DIR"
"""numba's: where compiled code is kept, a folder in it for each of sources. Images set it: their root is read-only."""


def is_compiled(folder: Path | None = None) -> bool:
    """Say, without importing numba, whether the twin was compiled into `folder` (None: where numba keeps it).

    False where numba had to keep its files elsewhere, because the sources' folder cannot be written.
    """
    written = max(source.stat().st_mtime for source in sources())
    return any(index.stat().st_mtime >= written for kept in _folders(folder) for index in kept.glob(_COMPILED))


def _folders(given: Path | None) -> Iterable[Path]:
    if given is not None:
        return (given,)
    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named).glob("*/") if named else (HERE / "__pycache__",)


def precompile() -> None:
    """Compile what is not compiled yet, by simulating one request."""
    import numpy as np

    from controlplane.domain.engines.engine import EngineConfig
    from tuner.twin.setup import resolve
    from tuner.twin.shapes import load_shape
    from tuner.twin.simulate import RequestArrays, simulate

    setup = resolve(load_shape("llama-8b"), "H200", EngineConfig())
    one = np.ones(1, np.int64)
    simulate(setup, RequestArrays(scheduled_s=np.zeros(1), prompt_tokens=100 * one, output_tokens=2 * one))
