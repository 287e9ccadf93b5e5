"""One keep-alive connection on a plain non-blocking socket, stamped by the kernel as bytes arrive.

`_socket.socket` is the C type beneath `socket.socket`: gevent leaves it alone, and nothing here may block.
"""

from __future__ import annotations

import _socket
import ssl
import struct
import time
from collections.abc import Sequence
from errno import EINPROGRESS
from typing import Any, NamedTuple

from controlplane.domain.errors import InvalidInput
from loadtests.send.plan import Target

_SO_TIMESTAMPNS = 35  # asm-generic/socket.h; Python's socket module does not name it
_STAMP = struct.Struct("qq")
_STAMP_SPACE = _socket.CMSG_SPACE(_STAMP.size)
_READ = 8192
_OLDEST_STAMP_NS = 2_000_000_000
_CLOSE_NS = 2_000  # ten times what the three calls take
_CLOCK_TRIES = 4
_SECOND_NS = 1_000_000_000
_TRY_S = 2.0  # for each of a name's several addresses


class Place(NamedTuple):
    family: int
    address: Any  # what the family calls an address


class Address(NamedTuple):
    family: int
    address: Any  # what the family calls an address
    tls: ssl.SSLContext | None
    server_name: str


def resolve(target: Target, tls: ssl.SSLContext | None) -> Address:
    """Look the target's name up, once per run. Raises InvalidInput when it has no address."""
    try:
        found = _socket.getaddrinfo(target.host, target.port, 0, _socket.SOCK_STREAM)
    except OSError as error:
        raise InvalidInput(f"target host '{target.host}' has no address", why=str(error)) from error
    place = first_answering([Place(family, address) for family, _, _, _, address in found])
    return Address(place.family, place.address, tls, target.host)


def first_answering(places: Sequence[Place]) -> Place:
    """Return the first of a name's addresses that takes a connection (`localhost` has two); else the first.

    Blocks for seconds at most, before a run.
    """
    return next((place for place in places if len(places) > 1 and _answers(place)), places[0])


def _answers(place: Place) -> bool:
    try:
        sock = _socket.socket(place.family, _socket.SOCK_STREAM)
    except OSError:  # this host does not speak the family
        return False
    try:
        sock.settimeout(_TRY_S)
        return sock.connect_ex(place.address) == 0
    except OSError:
        return False
    finally:
        sock.close()


def trust(target: Target, ca_file: str | None) -> ssl.SSLContext | None:
    """Return what checks the target's certificate, by the system's authorities or those in `ca_file`; None for http.

    Raises InvalidInput when the file holds no certificates.
    """
    if not target.tls:
        if ca_file is not None:
            raise InvalidInput("a CA file was given for a target without TLS", allowed="https://host:port")
        return None
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        why = error.strerror or "it holds no certificate in PEM form"
        raise InvalidInput(f"CA file '{ca_file}' is not usable", why=why, allowed="certificates in PEM form") from error


class Connection:
    """Raises OSError wherever the socket does, `ssl.SSLError` (an OSError) for TLS."""

    __slots__ = ("_out", "_sock", "_tls", "connected", "fd", "has_answered", "since_ns")

    def __init__(self, to: Address, now_ns: int) -> None:
        kind = _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC
        self._sock = _socket.socket(to.family, kind)
        self._sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        self._sock.setsockopt(_socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self.fd = self._sock.fileno()
        self.connected = False
        self.has_answered = False
        self.since_ns = now_ns  # of the present state: connecting, idle or busy
        self._out = b""
        self._tls = _Tls(to.tls, to.server_name) if to.tls else None
        failed = self._sock.connect_ex(to.address)
        if failed not in (0, EINPROGRESS):
            self._sock.close()
            raise OSError(failed, "connect")

    @property
    def wants_write(self) -> bool:
        return not self.connected or bool(self._out)

    def send(self, data: bytes) -> None:
        """Send now what goes now; the rest when the socket is writable."""
        self._out += self._tls.encrypt(data) if self._tls else data
        if self.connected:
            self._flush()

    def writable(self) -> None:
        """The socket can be written: the connection stands (or failed), or there is room again."""
        if not self.connected:
            failed = self._sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
            if failed:
                raise OSError(failed, "connect")
            self.connected = True
            if self._tls:
                self._out = self._tls.start() + self._out
        self._flush()

    def receive(self) -> tuple[bytes | None, int, bool]:
        """Return what is there, the instant it came (of the last piece, if several), whether the kernel said so.

        No bytes: the peer closed. None: there was nothing to read after all.
        """
        try:
            data, ancillary, _, _ = self._sock.recvmsg(_READ, _STAMP_SPACE)
        except BlockingIOError:
            return None, 0, False
        at_ns, by_kernel = arrival(ancillary)
        plain = self._decrypt(data) if self._tls and data else data
        return plain, at_ns, by_kernel

    def close(self) -> None:
        self._sock.close()

    def _flush(self) -> None:
        if not self._out:
            return
        try:
            sent = self._sock.send(self._out)
        except BlockingIOError:
            return
        self._out = self._out[sent:] if sent < len(self._out) else b""

    def _decrypt(self, data: bytes) -> bytes | None:
        assert self._tls is not None
        plain = self._tls.decrypt(data)
        self._out += self._tls.pending()
        self._flush()
        return plain


def arrival(ancillary: list[tuple[int, int, bytes]]) -> tuple[int, bool]:
    """Return when the kernel got the bytes (monotonic ns), and whether it said so.

    Now, when it does not say or a stepped clock makes nonsense of it. Stamps are on the wall clock: a process that
    loses its core between reading one clock and the other would have them early, so they are read again until nothing
    came in between. What is left is late, never early.
    """
    stamp_ns = _stamp_ns(ancillary)
    if not stamp_ns:
        return time.monotonic_ns(), False
    for _ in range(_CLOCK_TRIES):
        before_ns, wall_ns, now_ns = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
        if now_ns - before_ns < _CLOSE_NS:
            break
    age_ns = wall_ns - stamp_ns
    return (now_ns - age_ns, True) if 0 < age_ns < _OLDEST_STAMP_NS else (now_ns, False)


def _stamp_ns(ancillary: list[tuple[int, int, bytes]]) -> int:
    """Return the kernel's stamp on the wall clock, 0 without one."""
    if not ancillary:
        return 0
    _, kind, stamp = ancillary[0]  # nothing else was asked for
    if kind != _SO_TIMESTAMPNS or len(stamp) != _STAMP.size:
        return 0
    seconds, nanoseconds = _STAMP.unpack(stamp)
    at_ns: int = seconds * _SECOND_NS + nanoseconds
    return at_ns


class _Tls:
    """TLS over memory, so that the socket stays ours to read and stamp."""

    def __init__(self, context: ssl.SSLContext, server_name: str) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)
        self._ready = False
        self._held = b""

    def start(self) -> bytes:
        self._shake()
        return self.pending()

    def encrypt(self, data: bytes) -> bytes:
        if not self._ready:
            self._held += data
            return b""
        self._object.write(data)
        return self.pending()

    def decrypt(self, data: bytes) -> bytes | None:
        self._incoming.write(data)
        if not self._ready:
            self._shake()
        return self._read() if self._ready else None

    def pending(self) -> bytes:
        return self._outgoing.read()

    def _shake(self) -> None:
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return
        self._ready = True
        if self._held:
            self._object.write(self._held)
            self._held = b""

    def _read(self) -> bytes | None:
        pieces = []
        try:
            while piece := self._object.read(_READ):
                pieces.append(piece)
        except ssl.SSLWantReadError:
            return b"".join(pieces) or None
        except ssl.SSLZeroReturnError:  # a clean end of the TLS stream
            pass
        return b"".join(pieces)
