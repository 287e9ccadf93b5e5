"""Connections of one dispatcher: some always open and idle, replaced before the server would close them."""

from __future__ import annotations

import errno
from typing import Protocol

from loadtests.send.client.connection import Address, Connection

IN, OUT, ERR, HUP = 0x001, 0x004, 0x008, 0x010  # as in select.epoll, which gevent hides

_SECOND_NS = 1_000_000_000
_IDLE_NS = 2_500_000_000
"""Idle connections are replaced after this: servers close theirs after 5 s (uvicorn's default), and a request sent into
a closing connection would be lost through nobody's fault."""
_A_FEW = 8  # of them at a time: opening one takes 30 µs, in which nothing is sent
_FULL = (errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM)


class GeneratorFull(Exception):
    """This machine has no descriptor, port or memory left for another connection."""


class Poller(Protocol):
    """What is used of `select.epoll`."""

    def register(self, fd: int, eventmask: int) -> None: ...
    def modify(self, fd: int, eventmask: int) -> None: ...
    def unregister(self, fd: int) -> None: ...
    def poll(self, timeout: float, maxevents: int) -> list[tuple[int, int]]: ...
    def fileno(self) -> int: ...


class Pool:
    """Connections by descriptor. A connection is connecting, idle, or busy (then its dispatcher knows with what)."""

    def __init__(self, address: Address, poller: Poller) -> None:
        self._address, self._poller = address, poller
        self._idle: list[Connection] = []
        self._refill_ns = 0
        self.by_fd: dict[int, Connection] = {}
        self._spare = 0

    def prepare(self, spare: int, now_ns: int) -> None:
        """Open all the spare connections at once; `refresh` keeps their number."""
        self._spare = spare
        self._refill(now_ns, spare)

    def take(self, now_ns: int) -> Connection:
        """Return an idle connection, or one that is just connecting. Raises OSError, GeneratorFull."""
        return self._idle.pop() if self._idle else self.open(now_ns)

    def open(self, now_ns: int) -> Connection:
        """Begin to connect. Raises OSError when refused at once, GeneratorFull when it is this machine's fault."""
        try:
            connection = Connection(self._address, now_ns)
        except OSError as error:
            if error.errno in _FULL:
                raise GeneratorFull(str(error)) from error
            raise
        self.by_fd[connection.fd] = connection
        self._poller.register(connection.fd, IN | OUT)
        return connection

    def give_back(self, connection: Connection, now_ns: int) -> None:
        connection.since_ns = now_ns
        self._idle.append(connection)

    def drop(self, connection: Connection) -> None:
        del self.by_fd[connection.fd]
        self._poller.unregister(connection.fd)
        connection.close()

    def lost(self, connection: Connection, now_ns: int, *, failed: bool) -> None:
        """A connection that carried nothing is over. One that never stood or failed: do not hammer such a target."""
        was_idle = connection in self._idle
        if was_idle:
            self._idle.remove(connection)
        if failed or not was_idle:
            self._refill_ns = now_ns + _SECOND_NS
        self.drop(connection)

    def refresh(self, now_ns: int, busy: int) -> None:
        """Drop what has been idle too long; open spare connections, few at a time."""
        stale = [each for each in self._idle if now_ns - each.since_ns > _IDLE_NS]
        for connection in stale[:_A_FEW]:
            self._idle.remove(connection)
            self.drop(connection)
        if now_ns >= self._refill_ns:
            self._refill(now_ns, min(_A_FEW, self._spare - (len(self.by_fd) - busy)))

    def close(self) -> None:
        for connection in list(self.by_fd.values()):
            self.drop(connection)

    def _refill(self, now_ns: int, count: int) -> None:
        for _ in range(count):
            try:
                self.open(now_ns)
            except (OSError, GeneratorFull):
                self._refill_ns = now_ns + _SECOND_NS
                return
