"""Reads what the generator wrote: request records, as they appear and as columns, and gaps between tokens."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_FLOATS = ("scheduled_s", "lag_ms", "blur_ms", "ttft_ms", "tpot_ms", "e2e_ms", "max_itl_ms")
_INTS = ("index", "prompt_tokens", "output_tokens", "status")


@dataclass(frozen=True, eq=False)
class RecordTable:
    """n records as columns, ordered by index. Latencies in ms, NaN where a request never got that far."""

    index: Ints
    scheduled_s: Floats
    lag_ms: Floats
    prompt_tokens: Ints
    output_tokens: Ints
    ttft_ms: Floats
    tpot_ms: Floats
    e2e_ms: Floats
    max_itl_ms: Floats
    status: Ints
    cancelled: npt.NDArray[np.bool_]
    error: npt.NDArray[np.str_]  # "" for none
    blur_ms: Floats | None = None  # how much earlier the first token may have come than could be told

    def __len__(self) -> int:
        return len(self.index)

    @property
    def ok(self) -> npt.NDArray[np.bool_]:
        none: npt.NDArray[np.bool_] = self.error == ""
        return none

    @property
    def own_ms(self) -> Floats:
        """How much of each TTFT may be the generator's own: sent late, or read late."""
        return self.lag_ms if self.blur_ms is None else self.lag_ms + self.blur_ms

    def where(self, mask: npt.NDArray[np.bool_]) -> RecordTable:
        """Keep the rows where `mask` is true."""
        kept: dict[str, Any] = {name: None if column is None else column[mask] for name, column in vars(self).items()}
        return RecordTable(**kept)


def read_records(paths: Iterable[Path]) -> RecordTable:
    """Read record files (JSON lines, one request each) into columns ordered by index."""
    rows = [json.loads(line) for path in paths for line in _lines(path)]
    rows.sort(key=lambda row: row["index"])
    columns: dict[str, Any] = {name: _floats([row[name] for row in rows]) for name in _FLOATS}
    columns |= {name: _ints([row[name] for row in rows]) for name in _INTS}
    return RecordTable(
        **columns,
        cancelled=np.array([row.get("cancelled", False) for row in rows], dtype=np.bool_),
        error=np.array([row["error"] or "" for row in rows], dtype=np.str_),
    )


def _lines(path: Path) -> Iterator[str]:
    with path.open() as file:
        yield from file


def _floats(values: list[float | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _ints(values: list[int]) -> Ints:
    return np.array(values, dtype=np.int64)


def read_gaps_ms(paths: Iterable[Path], *, time_lapse: float, first_index: int = 0) -> Floats:
    """Read the gaps between token events of requests with index ≥ `first_index`, emulated ms, pooled."""
    pooled = [gaps for path in paths for index, gaps in _gap_runs(path) if index >= first_index]
    if not pooled:
        return np.empty(0)
    return np.concatenate(pooled).astype(np.float64) * (time_lapse / 1e3)


def _gap_runs(path: Path) -> Iterator[tuple[int, npt.NDArray[np.uint32]]]:
    """Yield (request index, its gaps in µs): the file is runs of index, count, gaps."""
    data = np.memmap(path, dtype=np.uint32, mode="r") if path.stat().st_size else np.empty(0, dtype=np.uint32)
    position = 0
    while position + 2 <= len(data):
        count = int(data[position + 1])
        yield int(data[position]), np.asarray(data[position + 2 : position + 2 + count])
        position += 2 + count


class LineTail:
    """Reads a growing file of lines: each call returns the whole lines that are new."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0
        self._half = b""

    def read(self) -> list[bytes]:
        """Return the lines completed since the last call; none while the file does not exist."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._position)
                data = file.read()
        except FileNotFoundError:
            return []
        self._position += len(data)
        *lines, self._half = (self._half + data).split(b"\n")
        return lines
