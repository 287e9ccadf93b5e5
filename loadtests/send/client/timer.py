"""An alarm clock with a file descriptor: gevent's timers round up to whole milliseconds, the kernel's do not."""

from __future__ import annotations

import ctypes
import os

_CLOCK_MONOTONIC = 1
_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC
_ABSOLUTE = 1
_SECOND_NS = 1_000_000_000


class Alarm:
    """Becomes readable at an instant of `time.monotonic_ns`."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd: int = self._libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        self._spec = (ctypes.c_long * 4)()
        self._armed_ns = 0

    def set(self, at_ns: int) -> None:
        """Ring at `at_ns` and at no other time."""
        if at_ns == self._armed_ns:
            return
        self._armed_ns = at_ns
        self._spec[2], self._spec[3] = divmod(at_ns, _SECOND_NS)
        self._libc.timerfd_settime(self.fd, _ABSOLUTE, self._spec, None)

    def silence(self) -> None:
        """Take note that it rang."""
        self._armed_ns = 0
        try:
            os.read(self.fd, 8)
        except BlockingIOError:
            return

    def close(self) -> None:
        os.close(self.fd)
