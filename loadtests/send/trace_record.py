"""Production recorded as a trace: arrivals, lengths, sessions and prefix hashes from the gateways' records. Never text.

Format `fleetune-trace/1`: JSON lines. The first names the format and what was left out; each further one is a request:
`t` seconds since the first, `p` prompt tokens, `o` output tokens, and where known `s` session, `k` key, `b` hashes of
the prompt's blocks of `block_tokens` tokens (of text: the median, not whole, as tokens do not end where blocks do).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from controlplane.domain.door.routing import ENGINE_SPARED, GatewayRecord
from controlplane.domain.door.served import was_served
from controlplane.domain.errors import InvalidInput
from controlplane.host.files import whole_file
from loadtests.send.trace_rows import OWN_FORMAT
from loadtests.send.traces import Trace


class Recorded(NamedTuple):
    """What became of the records."""

    requests: int
    left_out: int  # their lengths are unknown: without token counts, or `unserved`
    estimated: int = 0  # prompts whose client did not ask for usage: their bytes times the others' tokens per byte
    unserved: int = 0  # of those left out: refused, broken off by the engine, or cut by ourselves


def record_trace(records: Iterable[GatewayRecord], path: Path, *, keys: bool = True) -> Recorded:
    """Write what engines were given to do as a trace, by `outcomes`. Raises InvalidInput when nothing can be used.

    Requests that were answered, and of clients that hung up what they had been sent by then: so much the engine had to
    do. What was refused, broken off or cut by ourselves has no length of its own; what the cache answered, and attempts
    that another replica made good, are no load. Without `keys` the trace does not say whose key a request had.
    """
    given = [record for record in records if not record.retried and record.cache not in ENGINE_SPARED]
    seen = _estimated([record for record in given if was_served(record)])
    usable = sorted((record for record in seen if _is_usable(record)), key=lambda record: record.at)
    if not usable:
        raise InvalidInput(
            "nothing to record",
            why=f"none of {len(given)} requests was served with prompt and output tokens counted",
        )
    start = usable[0].at
    header = {
        "format": OWN_FORMAT,
        "from": start.isoformat(),
        "to": usable[-1].at.isoformat(),
        "requests": len(usable),
        "left_out": len(given) - len(usable),
        "block_tokens": _block_tokens(usable),
    }
    lines = (_line((record.at - start).total_seconds(), record, keys=keys) for record in usable)
    _write(path, header, lines)
    estimated = len({id(each) for each in usable} - {id(each) for each in given})
    return Recorded(len(usable), len(given) - len(usable), estimated, len(given) - len(seen))


def export_trace(trace: Trace, path: Path) -> None:
    """Write any trace as .csv (arrival_s, prompt_tokens, output_tokens) or .jsonl (our format). Raises InvalidInput."""
    match path.suffix:
        case ".csv":
            columns = zip(
                trace.arrival_s.tolist(), trace.prompt_tokens.tolist(), trace.output_tokens.tolist(), strict=True
            )
            rows = "".join(f"{t:.6f},{p},{o}\n" for t, p, o in columns)
            path.write_text("arrival_s,prompt_tokens,output_tokens\n" + rows)
        case ".jsonl":
            header = {"format": OWN_FORMAT, "requests": len(trace), "block_tokens": trace.block_tokens}
            _write(path, header, (_row(trace, index) for index in range(len(trace))))
        case other:
            raise InvalidInput(f"cannot export a trace as '{other}'", allowed=".csv, .jsonl")


def _is_usable(record: GatewayRecord) -> bool:
    return bool(record.prompt_tokens and record.output_tokens)


def _estimated(records: Sequence[GatewayRecord]) -> list[GatewayRecord]:
    """Give text prompts without a count one, by the tokens per byte of those that have one; without any, none."""
    counted = [record for record in records if record.prompt_tokens and record.prompt_bytes]
    if not counted:
        return list(records)
    tokens = sum(record.prompt_tokens or 0 for record in counted)
    per_byte = tokens / sum(record.prompt_bytes or 0 for record in counted)
    return [
        record.evolve(prompt_tokens=max(1, round(per_byte * record.prompt_bytes)))
        if record.prompt_tokens is None and record.prompt_bytes
        else record
        for record in records
    ]


def _block_tokens(records: Sequence[GatewayRecord]) -> float:
    """Return the size of the median block; 0 when no size is known."""
    sizes = sorted(
        (record.prefix_block_tokens, len(record.prefix_blocks)) for record in records if record.prefix_block_tokens
    )
    half = sum(count for _, count in sizes) / 2
    below = 0
    for size, count in sizes:
        below += count
        if below >= half and count:
            return size
    return 0.0


def _line(at_s: float, record: GatewayRecord, *, keys: bool) -> dict[str, Any]:
    line: dict[str, Any] = {"t": round(at_s, 6), "p": record.prompt_tokens, "o": record.output_tokens}
    optional = {"s": record.session, "k": record.key if keys else None, "b": list(record.prefix_blocks)}
    return line | {name: value for name, value in optional.items() if value}


def _row(trace: Trace, index: int) -> dict[str, Any]:
    row: dict[str, Any] = {
        "t": round(float(trace.arrival_s[index]), 6),
        "p": int(trace.prompt_tokens[index]),
        "o": int(trace.output_tokens[index]),
    }
    if trace.session is not None and trace.session[index] >= 0:
        row["s"] = int(trace.session[index])
    if trace.blocks is not None:
        row["b"] = list(trace.blocks[index])
    return row


def _write(path: Path, header: dict[str, Any], lines: Iterator[dict[str, Any]]) -> None:
    with whole_file(path, private=False) as file:
        file.write(json.dumps(header).encode() + b"\n")
        file.writelines(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines)
