"""Traces: recorded arrivals and lengths. Loads the shipped ones by name and files of several formats by path."""

from __future__ import annotations

import errno
import functools
import gzip
import io
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from controlplane.domain.errors import InvalidInput, unreadable
from controlplane.reading.text_file import RECORDING_BYTES, read_bytes
from loadtests.send.trace_rows import Columns, Parsed, Row, parse_rows

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_DATA = Path(__file__).parents[1] / "data"
_AZURE = "Azure LLM inference trace 2023, CC-BY 4.0; Patel et al., Splitwise, ISCA 2024"
SHIPPED = {
    "azure-llm-2023/conv": f"a conversation service ({_AZURE})",
    "azure-llm-2023/code": f"a code service ({_AZURE})",
}
"""Name → what it is and whom to cite."""

_WORST_BROKEN_SHARE = 0.1
"""Above this the file is probably not the trace its columns say it is."""


@dataclass(frozen=True, eq=False)
class Trace:
    """n requests in order of arrival. Lengths only, never text."""

    name: str
    arrival_s: Floats  # (n,), seconds since the first request
    prompt_tokens: Ints  # (n,)
    output_tokens: Ints  # (n,)
    session: Ints | None = None  # (n,), number of the session, -1 for none
    blocks: tuple[tuple[int, ...], ...] | None = None  # (n,) ids of prompt blocks; equal ids share their tokens
    block_tokens: float = 0  # of recorded text not whole: the mean
    citation: str = ""
    broken: int = 0
    first_broken: str = ""
    tenants: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.arrival_s)

    @property
    def duration_s(self) -> float:
        return float(self.arrival_s[-1])

    @property
    def rate_rps(self) -> float:
        """Mean rate over the whole trace; 0 for a single instant."""
        return (len(self) - 1) / self.duration_s if self.duration_s > 0 else 0.0


def load_trace(name: str, columns: Columns | None = None) -> Trace:
    """Load a shipped trace by name or a CSV / JSONL file (plain or .gz) by path.

    Formats are recognised by their columns: Azure 2023, BurstGPT, Mooncake, Fleetune's own; any other needs `columns`.
    Broken rows are left out, counted, and the first one described. Raises InvalidInput when the file cannot be read,
    has no known columns, more than a tenth of its rows are broken, or none is left.
    """
    return _load(name, _path(name), columns, written_ns(name))


def written_ns(name: str) -> int:
    """Return when the trace's file was last written, ns: it is another trace afterwards. 0 where it cannot be read."""
    try:
        return _path(name).stat().st_mtime_ns
    except OSError:
        return 0  # reading it says what is wrong


def _path(name: str) -> Path:
    return _DATA / f"{name}.csv.gz" if name in SHIPPED else Path(name)


@functools.lru_cache(maxsize=16)
def _load(name: str, path: Path, columns: Columns | None, written_at: int) -> Trace:
    """Parse once as long as the file stays as it is."""
    parsed = parse_rows(_read(path, name), source=name, columns=columns)
    total = len(parsed.rows) + parsed.broken
    if not parsed.rows or parsed.broken > _WORST_BROKEN_SHARE * total:
        raise InvalidInput(
            f"trace {name} is unusable",
            why=f"{parsed.broken} of {total} rows are broken; first: {parsed.first_broken or 'the file has no rows'}",
            allowed="at most a tenth broken, at least one good",
        )
    return _trace(name, parsed)


def _read(path: Path, name: str) -> str:
    try:
        raw = read_bytes(path, most_bytes=RECORDING_BYTES)
        return (_decompressed(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        known = ", ".join(SHIPPED)
        raise InvalidInput(
            f"cannot read trace '{name}'",
            why=f"{path.absolute()}: {unreadable(error)}",
            allowed=f"{known}, or a file",
        ) from error


def _decompressed(raw: bytes) -> bytes:
    """Raises OSError for more than a trace can be: some kilobytes may hold gigabytes of one letter."""
    with gzip.GzipFile(fileobj=io.BytesIO(raw)) as file:
        found = file.read(RECORDING_BYTES + 1)
    if len(found) > RECORDING_BYTES:
        raise OSError(errno.EFBIG, f"it holds more than {RECORDING_BYTES // 2**20} MiB, which none of its kind does")
    return found


def _trace(name: str, parsed: Parsed) -> Trace:
    rows = sorted(parsed.rows, key=lambda row: row.arrival_s)
    start = rows[0].arrival_s
    return Trace(
        name=name,
        arrival_s=np.array([row.arrival_s - start for row in rows], dtype=np.float64),
        prompt_tokens=np.array([row.prompt_tokens for row in rows], dtype=np.int64),
        output_tokens=np.array([row.output_tokens for row in rows], dtype=np.int64),
        session=_numbered(rows),
        blocks=tuple(row.blocks or () for row in rows) if parsed.block_tokens else None,
        block_tokens=parsed.block_tokens,
        citation=SHIPPED.get(name, ""),
        broken=parsed.broken,
        first_broken=parsed.first_broken,
        tenants=tuple(row.tenant or "" for row in rows) if any(row.tenant for row in rows) else (),
    )


def _numbered(rows: list[Row]) -> Ints | None:
    """Give sessions numbers in order of appearance; None when the trace knows no sessions."""
    if all(row.session is None for row in rows):
        return None
    numbers: dict[str, int] = {}
    return np.array(
        [-1 if row.session is None else numbers.setdefault(row.session, len(numbers)) for row in rows], dtype=np.int64
    )
