"""What of a log a server sends."""

from __future__ import annotations

from collections.abc import Mapping


def shown_of(log: str, query: Mapping[str, str]) -> str:
    """Return the last lines that are asked for, and of those so many bytes from their beginning: no end of a log."""
    lines = log.splitlines(keepends=True)
    if "tailLines" in query:
        lines = lines[-int(query["tailLines"]) :]
    content = "".join(lines).encode()
    return content[: int(query.get("limitBytes", len(content)))].decode(errors="replace")
