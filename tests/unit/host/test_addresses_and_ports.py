"""What only this machine reaches, and which of its ports are free."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.errors import InvalidInput, Unavailable
from controlplane.host.addresses import is_loopback, is_tls
from controlplane.host.ports import free_port, is_free


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.2", "localhost", "LocalHost", "::1", "[::1]", "::ffff:127.0.0.1", "0:0:0:0:0:0:0:1"]
)
def test_this_machine_itself_is_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["", "0.0.0.0", "::", "10.0.0.1", "128.0.0.1", "localhost.evil.example", "127.0.0.1.evil.example", "[::2]"]
)
def test_anything_others_may_reach_or_name_is_not(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("url", "tls"), [("http://127.0.0.1:8000", False), ("https://[::1]:8000", True), ("HTTPS://a", True), ("a", False)]
)
def test_only_what_is_asked_over_tls_needs_to_know_whom_to_trust(url: str, tls: bool) -> None:
    assert is_tls(url) is tls


@given(st.ip_addresses(v=4, network="127.0.0.0/8"))
def test_all_of_127_is_loopback(address: object) -> None:
    assert is_loopback(str(address))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_somebody_listens_on_is_not_free(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    port = free_port(host)
    with socket.create_server((host, port), family=family):
        assert not is_free(host, port)
    assert is_free(host, port)


def test_a_port_somebody_listens_on_is_never_given() -> None:
    port = free_port()
    others = set(range(20000, 32000)) - {port}
    with socket.create_server(("127.0.0.1", port)), pytest.raises(Unavailable, match="no port is free"):
        free_port(taken=others)


def test_a_port_already_given_out_is_not_given_again() -> None:
    taken = set(range(20000, 32000)) - {21234, 21235}
    assert {free_port(taken=taken - {21236}) for _ in range(2)} <= {21234, 21235, 21236}


def test_a_port_that_another_process_was_given_is_not_given_before_its_owner_listens() -> None:
    code = "from controlplane.host.ports import free_port; print(free_port(), flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        port = int(other.stdout.readline())
        assert is_free("127.0.0.1", port)
        with pytest.raises(Unavailable):
            free_port(taken=set(range(20000, 32000)) - {port})
        other.communicate(b"\n")
    assert free_port(taken=set(range(20000, 32000)) - {port}) == port


def test_a_process_holds_no_more_than_the_last_ports_it_gave() -> None:
    first = free_port()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(100):
        free_port()
    assert len(os.listdir("/proc/self/fd")) - before <= 16
    assert free_port(taken=set(range(20000, 32000)) - {first}) == first


def test_a_host_that_is_not_this_machines_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"nothing can listen on 192\.0\.2\.1"):
        free_port("192.0.2.1")
