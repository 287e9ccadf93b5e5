"""The kernel's receive stamps, and what becomes of them when somebody sets the clock."""

from __future__ import annotations

import socket
import struct
import time

import pytest

from loadtests.send.client import connection
from loadtests.send.client.connection import arrival

SO_TIMESTAMPNS = 35


def stamp(ago_s: float) -> list[tuple[int, int, bytes]]:
    at_ns = time.time_ns() - int(ago_s * 1e9)
    return [(socket.SOL_SOCKET, SO_TIMESTAMPNS, struct.pack("qq", *divmod(at_ns, 10**9)))]


class Clocks:
    """A wall and a monotonic clock, 100 ns a reading; `pauses_ns` come before the first readings of the wall clock."""

    def __init__(self, *pauses_ns: int) -> None:
        self._at_ns = 5 * 10**9
        self._pauses_ns = list(pauses_ns)

    def monotonic_ns(self) -> int:
        self._at_ns += 100
        return self._at_ns

    def time_ns(self) -> int:
        self._at_ns += self._pauses_ns.pop(0) if self._pauses_ns else 0
        return 1_700_000_000 * 10**9 + self.monotonic_ns()


def test_stamp_tells_how_long_bytes_waited_to_be_read() -> None:
    at_ns, by_kernel = arrival(stamp(0.5))
    assert by_kernel
    assert 500_000_000 <= time.monotonic_ns() - at_ns < 1_500_000_000


@pytest.mark.parametrize("pauses_ns", [(), (50_000,), (50_000, 9_000, 70_000), (50_000,) * 9])
def test_core_lost_between_the_clocks_makes_no_stamp_early(
    pauses_ns: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    came = [(socket.SOL_SOCKET, SO_TIMESTAMPNS, struct.pack("qq", 1_700_000_004, 0))]
    monkeypatch.setattr(connection, "time", Clocks(*pauses_ns))
    at_ns, by_kernel = arrival(came)
    assert by_kernel
    assert 0 <= at_ns - 4 * 10**9 <= 200


@pytest.mark.parametrize("stepped_s", [-3600.0, -1.0, 3600.0])
def test_stamp_from_before_a_clock_step_is_ignored(stepped_s: float) -> None:
    assert_now(*arrival(stamp(stepped_s)))


@pytest.mark.parametrize("ancillary", [[], [(socket.SOL_SOCKET, 1, b"x" * 16)], [(socket.SOL_SOCKET, 35, b"short")]])
def test_no_stamp_or_a_strange_one_means_now(ancillary: list[tuple[int, int, bytes]]) -> None:
    assert_now(*arrival(ancillary))


def assert_now(at_ns: int, by_kernel: bool) -> None:
    assert not by_kernel
    assert abs(time.monotonic_ns() - at_ns) < 900_000_000
