"""The kernel's receive stamps, and what becomes of them when somebody sets the clock."""

from __future__ import annotations

import socket
import struct
import time

import pytest

from loadtests.client.connection import stamp_age_ns

SO_TIMESTAMPNS = 35


def stamp(ago_s: float) -> list[tuple[int, int, bytes]]:
    at_ns = time.time_ns() - int(ago_s * 1e9)
    return [(socket.SOL_SOCKET, SO_TIMESTAMPNS, struct.pack("qq", *divmod(at_ns, 10**9)))]


def test_stamp_tells_how_long_bytes_waited_to_be_read() -> None:
    assert stamp_age_ns(stamp(0.5)) >= 500_000_000


@pytest.mark.parametrize("stepped_s", [-3600.0, -1.0, 3600.0])
def test_stamp_from_before_a_clock_step_is_ignored(stepped_s: float) -> None:
    assert stamp_age_ns(stamp(stepped_s)) == 0


@pytest.mark.parametrize("ancillary", [[], [(socket.SOL_SOCKET, 1, b"x" * 16)], [(socket.SOL_SOCKET, 35, b"short")]])
def test_no_stamp_or_a_strange_one_means_now(ancillary: list[tuple[int, int, bytes]]) -> None:
    assert stamp_age_ns(ancillary) == 0
