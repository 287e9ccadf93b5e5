"""An incremental HTTP/1.1 response parser: bytes in as they come, body pieces out. Pure; no input, no clock."""

from __future__ import annotations

from enum import Enum, auto

_MAX_HEAD = 65536
_MAX_CHUNK_LINE = 4096
_MAX_DIGITS = 15  # of a length; more is nonsense, and thousands are more than Python makes a number of


class ProtocolError(Exception):
    """The peer does not speak HTTP/1.1 as RFC 9112 has it."""


class _At(Enum):
    HEAD = auto()
    LENGTH = auto()
    CHUNK_SIZE = auto()
    CHUNK_DATA = auto()
    CHUNK_END = auto()
    TRAILER = auto()
    UNTIL_CLOSE = auto()
    DONE = auto()


_CHUNK_SIZE = _At.CHUNK_SIZE
_SIZES: dict[bytes, int] = {b"%x" % size: size for size in range(1, 4096)}
"""Sizes of chunks that hold a token, as servers write them: looked up instead of parsed."""


def _whole_chunks(data: bytes, pieces: list[bytes]) -> int:
    """Take the ordinary whole chunks that `data` begins with; return the position after them. The fast path."""
    position = 0
    while True:
        line_end = data.find(b"\r\n", position)
        size = _SIZES.get(data[position:line_end]) if line_end >= 0 else None
        if size is None:
            return position
        start = line_end + 2
        end = start + size
        if data[end : end + 2] != b"\r\n":
            return position
        pieces.append(data[start:end])
        position = end + 2


class ResponseParser:
    """One response. `feed` returns the body bytes it uncovered; `done` says the response is whole.

    Bytes after the end of the response are an error: nothing was asked for yet (requests are not pipelined).
    """

    __slots__ = ("_at", "_buffer", "_left", "content_type", "keep_alive", "status")

    def __init__(self) -> None:
        self.status = 0
        self.keep_alive = True
        self.content_type = ""
        self._at = _At.HEAD
        self._buffer = b""
        self._left = 0

    @property
    def done(self) -> bool:
        return self._at is _At.DONE

    def one_chunk(self, data: bytes) -> bytes | None:
        """Return the body bytes if `data` is exactly one whole chunk and nothing is left over; else None, unchanged."""
        if self._at is not _CHUNK_SIZE or self._buffer:
            return None
        line_end = data.find(b"\r\n")
        size = _SIZES.get(data[:line_end]) if line_end >= 0 else None
        if size is None or len(data) != line_end + size + 4 or not data.endswith(b"\r\n"):
            return None
        return data[line_end + 2 : -2]

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes; return the pieces of the body in them. Raises ProtocolError."""
        data = self._buffer + data if self._buffer else data
        self._buffer = b""
        pieces: list[bytes] = []
        position = _whole_chunks(data, pieces) if self._at is _CHUNK_SIZE else 0
        while position < len(data):
            moved = self._step(data, position, pieces)
            if moved == position:
                self._buffer = data[position:]
                break
            position = moved
        return pieces

    def close(self) -> None:
        """The peer closed. Raises ProtocolError when the response was not whole."""
        if self._at is _At.UNTIL_CLOSE:
            self._at = _At.DONE
        if self._at is not _At.DONE:
            raise ProtocolError("connection closed within the response")

    def _step(self, data: bytes, position: int, pieces: list[bytes]) -> int:
        """Use some of data[position:] and return the new position; the same one when more bytes are needed."""
        match self._at:
            case _At.CHUNK_SIZE:
                return self._chunk_size(data, position)
            case _At.CHUNK_DATA | _At.LENGTH:
                return self._counted(data, position, pieces)
            case _At.CHUNK_END:
                return self._chunk_end(data, position)
            case _At.HEAD:
                return self._head(data, position)
            case _At.TRAILER:
                return self._trailer(data, position)
            case _At.UNTIL_CLOSE:
                pieces.append(data[position:])
                return len(data)
            case _At.DONE:
                raise ProtocolError("bytes after the end of the response")

    def _chunk_size(self, data: bytes, position: int) -> int:
        end = data.find(b"\r\n", position)
        if end < 0:
            if len(data) - position > _MAX_CHUNK_LINE:
                raise ProtocolError("endless chunk size")
            return position
        digits = data[position:end].partition(b";")[0].strip(b" \t")
        if not 0 < len(digits) <= _MAX_DIGITS or digits.strip(b"0123456789abcdefABCDEF"):
            raise ProtocolError("chunk size is not a short hexadecimal number")
        self._left = int(digits, 16)
        self._at = _At.CHUNK_DATA if self._left else _At.TRAILER
        return end + 2

    def _counted(self, data: bytes, position: int, pieces: list[bytes]) -> int:
        end = min(position + self._left, len(data))
        pieces.append(data[position:end])
        self._left -= end - position
        if not self._left:
            self._at = _At.DONE if self._at is _At.LENGTH else _At.CHUNK_END
        return end

    def _chunk_end(self, data: bytes, position: int) -> int:
        if len(data) - position < 2:
            return position
        if data[position : position + 2] != b"\r\n":
            raise ProtocolError("chunk longer than its size")
        self._at = _At.CHUNK_SIZE
        return position + 2

    def _trailer(self, data: bytes, position: int) -> int:
        end = data.find(b"\r\n", position)
        if end < 0:
            if len(data) - position > _MAX_HEAD:
                raise ProtocolError("endless trailer")
            return position
        if end == position:
            self._at = _At.DONE
        return end + 2

    def _head(self, data: bytes, position: int) -> int:
        end = data.find(b"\r\n\r\n", position)
        if end < 0:
            if len(data) - position > _MAX_HEAD:
                raise ProtocolError("endless response head")
            return position
        status_line, *lines = data[position:end].split(b"\r\n")
        self.status = _status(status_line)
        if self.status >= 200:  # 1xx are followed by the real response
            self._framing(_headers(lines), status_line.startswith(b"HTTP/1.0"))
        return end + 4

    def _framing(self, headers: dict[bytes, bytes], is_http10: bool) -> None:
        connection = headers.get(b"connection", b"").lower()
        self.keep_alive = b"keep-alive" in connection if is_http10 else b"close" not in connection
        self.content_type = headers.get(b"content-type", b"").decode("latin-1").lower()
        if self.status in (204, 304):
            self._at = _At.DONE
        elif b"chunked" in headers.get(b"transfer-encoding", b"").lower():
            self._at = _At.CHUNK_SIZE
        elif b"content-length" in headers:
            self._length(headers[b"content-length"])
        else:
            self._at, self.keep_alive = _At.UNTIL_CLOSE, False

    def _length(self, value: bytes) -> None:
        if not value.isdigit() or len(value) > _MAX_DIGITS:
            raise ProtocolError("content-length is not a number")
        self._left = int(value)
        self._at = _At.LENGTH if self._left else _At.DONE


def _status(line: bytes) -> int:
    version, _, rest = line.partition(b" ")
    if not version.startswith(b"HTTP/1.") or not rest[:3].isdigit():
        raise ProtocolError("no HTTP/1.1 status line")
    status = int(rest[:3])
    if not 100 <= status <= 599:
        raise ProtocolError(f"status {status}")
    return status


def _headers(lines: list[bytes]) -> dict[bytes, bytes]:
    headers: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon:
            raise ProtocolError("header without a colon")
        headers[name.strip().lower()] = value.strip()
    return headers
