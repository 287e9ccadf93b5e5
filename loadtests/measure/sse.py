"""An incremental parser of server-sent events (WHATWG HTML, section 9.2), whatever the chunking. Pure.

The gateway reads such streams too (`controlplane/gateway/sse.py`) and shares nothing with this: it passes bytes on as
they came and holds back half an event; here all is decoded as the standard says, a byte order mark and lone CRs too.
"""

from __future__ import annotations

_MAX_EVENT = 8 * 1024 * 1024


class SseError(Exception):
    """An event grew beyond any sense."""


class SseParser:
    """`feed` takes body bytes in any cut and returns the events completed by them as (event type, data) pairs."""

    __slots__ = ("_after_cr", "_buffer", "_started")

    def __init__(self) -> None:
        self._buffer = b""
        self._after_cr = False
        self._started = False

    def one_event(self, piece: bytes) -> bytes | None:
        """Return the data if `piece` is exactly one plain event and nothing was left over; else None, unchanged."""
        if self._buffer or not self._started or self._after_cr or not _is_one_plain_event(piece):
            return None
        return piece[6:-2]

    def feed(self, piece: bytes) -> list[tuple[bytes, bytes]]:
        """Return the events that `piece` completed, in order. Raises SseError when one exceeds 8 MiB."""
        if (data := self.one_event(piece)) is not None:
            return [(b"", data)]
        text = self._buffer + self._with_plain_newlines(piece)
        if not self._started and text:
            if b"\xef\xbb\xbf".startswith(text[:3]) and len(text) < 3:
                self._buffer = text  # perhaps the beginning of a byte order mark
                return []
            text = text.removeprefix(b"\xef\xbb\xbf")
            self._started = True
        *blocks, self._buffer = text.split(b"\n\n")
        if len(self._buffer) > _MAX_EVENT:
            raise SseError("event longer than 8 MiB")
        return [event for block in blocks if (event := _event(block)) is not None]

    def _with_plain_newlines(self, piece: bytes) -> bytes:
        """Turn CRLF and CR into LF; a CRLF may be cut in two."""
        if self._after_cr and piece:
            piece = piece.removeprefix(b"\n")
            self._after_cr = False
        if b"\r" in piece:
            self._after_cr = piece.endswith(b"\r")
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return piece


def _is_one_plain_event(piece: bytes) -> bool:
    """What nearly every chunk of every engine is: one `data: …` line and an empty one."""
    return (
        piece.startswith(b"data: ")
        and piece.endswith(b"\n\n")
        and piece.find(b"\n") == len(piece) - 2
        and b"\r" not in piece
    )


def _event(block: bytes) -> tuple[bytes, bytes] | None:
    kind = b""
    data: list[bytes] = []
    for line in block.split(b"\n"):
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name == b"event":
            kind = value
    return (kind, b"\n".join(data)) if data else None
