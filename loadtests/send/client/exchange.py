"""One request and its answer as a state machine: bytes and instants in, an outcome out. No sockets, no clock."""

from __future__ import annotations

from loadtests.measure.meter import TokenMeter
from loadtests.measure.sse import SseError, SseParser
from loadtests.send.http1 import ProtocolError, ResponseParser

_MAX_BODY = 64 * 1024 * 1024
_CLOSING_NS = 250_000_000


class Exchange:
    """Instants are nanoseconds of the monotonic clock."""

    __slots__ = (
        "_body",
        "_body_bytes",
        "_parser",
        "_sse",
        "asked_again",
        "blur_ns",
        "cancel_after",
        "cancelled",
        "error",
        "finished_ns",
        "heard_ns",
        "index",
        "meter",
        "received_bytes",
        "scheduled_ns",
        "sent_ns",
    )

    def __init__(self, index: int, scheduled_ns: int, sent_ns: int, cancel_after: int = 0) -> None:
        self.index = index
        self.scheduled_ns = scheduled_ns
        self.sent_ns = sent_ns
        self.cancel_after = cancel_after
        self.heard_ns = 0  # when bytes last came
        self.finished_ns = 0
        self.received_bytes = 0
        self.blur_ns = 0  # how much earlier the first token may have come than could be told
        self.error: str | None = None
        self.cancelled = False
        self.asked_again = False
        self.meter = TokenMeter()
        self._parser = ResponseParser()
        self._sse: SseParser | None = None
        self._body: list[bytes] = []
        self._body_bytes = 0

    @property
    def status(self) -> int:
        return self._parser.status

    @property
    def done(self) -> bool:
        return self.finished_ns != 0

    @property
    def reusable(self) -> bool:
        """Whether the connection may carry another request."""
        return self._parser.done and self._parser.keep_alive and self.error not in ("protocol", "redirect")

    def feed(self, data: bytes, at_ns: int, looked_ns: int = 0) -> None:
        """Take bytes whose last piece arrived at `at_ns`; before `looked_ns` none of them were there.

        Read in one piece with later tokens, the first token has their instant: the difference may hide in between.
        """
        if self._is_one_more_token(data, at_ns):
            return
        is_first = not self.meter.events
        self._feed(data, at_ns)
        if is_first and self.meter.coalesced and looked_ns:
            self.blur_ns = max(0, at_ns - max(looked_ns, self.sent_ns))

    def _is_one_more_token(self, data: bytes, at_ns: int) -> bool:
        """The fast path of nearly every read: one chunk, one event, one token, like the one before."""
        if self._sse is None or self.cancel_after:
            return False
        piece = self._parser.one_chunk(data)
        event = None if piece is None else self._sse.one_event(piece)
        if event is None or not self.meter.take_plain(event, at_ns):
            return False
        self.heard_ns = at_ns
        self.received_bytes += len(data)
        return True

    def _feed(self, data: bytes, at_ns: int) -> None:
        self.heard_ns = at_ns
        self.received_bytes += len(data)
        try:
            for piece in self._parser.feed(data):
                self._take(piece, at_ns)
        except (ProtocolError, SseError):
            self.fail("protocol", at_ns)
            return
        if self.cancel_after and self.meter.events >= self.cancel_after and not self._parser.done:
            self.cancelled = True
            self.finished_ns = at_ns
        elif self._parser.done:
            self._conclude(at_ns)

    def may_be_asked_again(self, now_ns: int) -> bool:
        """Whether a connection that had answered before was being closed as it was asked; true once at most.

        Some servers close behind an answer and do not say so: what is sent meanwhile is lost through nobody's fault.
        Every HTTP client sends it again on a fresh connection, and so does this one.
        """
        met = not self.received_bytes and not self.asked_again and now_ns - self.sent_ns < _CLOSING_NS
        self.asked_again |= met
        return met

    def peer_closed(self, at_ns: int) -> None:
        """The peer ended the connection."""
        try:
            self._parser.close()
        except ProtocolError:
            self.fail("truncated" if self.status == 200 else "reset", at_ns)
        else:
            self._conclude(at_ns)

    def fail(self, error: str, at_ns: int) -> None:
        """End with an error, unless it already ended."""
        if not self.finished_ns:
            self.error = error
            self.finished_ns = at_ns

    def _take(self, piece: bytes, at_ns: int) -> None:
        if self.status == 200 and "text/event-stream" in self._parser.content_type:
            if self._sse is None:
                self._sse = SseParser()
            for kind, event in self._sse.feed(piece):
                self.meter.take(kind, event, at_ns)
            return
        self._body_bytes += len(piece)
        if self._body_bytes > _MAX_BODY:
            raise ProtocolError("body longer than 64 MiB")
        if self.status == 200:  # the text of an error is nobody's business
            self._body.append(piece)

    def _conclude(self, at_ns: int) -> None:
        self.finished_ns = at_ns
        if self.status != 200:
            self.error = "redirect" if 300 <= self.status < 400 else f"http_{self.status}"
            return
        if self._sse is None:
            self.meter.take_whole(b"".join(self._body))
            self._body.clear()
        if self.meter.error:
            self.error = self.meter.error
        elif not self.meter.finished:
            self.error = "truncated"
