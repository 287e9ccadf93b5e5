"""GatewayOpener on Fleetune's own gateway: a child process on free ports, with one route.

On loopback, where it asks for no key; or on an address of this host that others reach, with a key of its own that
dies with it.
"""

from __future__ import annotations

import hashlib
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from controlplane.adapters.gateway.traffic import GatewayTraffic
from controlplane.domain.door.gateway_files import addresses_dir, table_path
from controlplane.domain.door.identity import ApiKey
from controlplane.domain.door.routing import GatewayAddress, RoutingTable, ServiceRoute
from controlplane.domain.errors import Unavailable
from controlplane.host.addresses import is_loopback
from controlplane.ports.gateways import OpenGateway

_NAME = "fleet-check"
_START_S = 60.0  # importing the gateway on a loaded machine
_PUSH_S = 10.0
_DRAIN_S = 5
_STOP_S = 10.0
_POLL_S = 0.05


class GatewayProcesses:
    """Opens gateways at `host`. Each ends with its standard input: no crash of this process leaves one behind."""

    def __init__(self, *, host: str = "127.0.0.1") -> None:
        self._host = host

    @contextmanager
    def open(self, route: ServiceRoute, *, folder: Path) -> Iterator[OpenGateway]:
        """See `ports.GatewayOpener.open`."""
        token = secrets.token_urlsafe(32)
        _prepare(folder, token)
        with (folder / "gateway.log").open("wb") as log:
            child = subprocess.Popen(_command(folder, self._host), stdin=subprocess.PIPE, stdout=log, stderr=log)
        try:
            address = _address(child, folder)
            key = None if is_loopback(self._host) else secrets.token_urlsafe(32)
            _give(address, _table(route, key), token)
            yield OpenGateway(address.url, key)
        finally:
            _end(child)
            _token_file(folder).unlink(missing_ok=True)


def _prepare(folder: Path, token: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        table_path(folder, _NAME).unlink(missing_ok=True)  # of one before it, whose key is gone
        path = _token_file(folder)
        path.touch(mode=0o600)
        path.write_text(token)
    except OSError as error:
        raise Unavailable(f"cannot write to {folder}", why=error.strerror or str(error)) from error


def _table(route: ServiceRoute, key: str | None) -> RoutingTable:
    if key is None:
        return RoutingTable(version=1, services=(route,))
    known = ApiKey(name=_NAME, sha256=hashlib.sha256(key.encode()).hexdigest())
    return RoutingTable(version=1, services=(route,), api_keys=(known,), keys_required=True)


def _command(folder: Path, host: str) -> list[str]:
    return [
        *(sys.executable, "-m", "controlplane.gateway", "--name", _NAME, "--data-dir", str(folder)),
        *("--host", host, "--port", "0", "--admin-port", "0"),
        *("--admin-token-file", str(_token_file(folder))),
        *("--drain-s", str(_DRAIN_S), "--until-stdin-ends"),
    ]


def _token_file(folder: Path) -> Path:
    return folder / "admin-token"


def _address(child: subprocess.Popen[bytes], folder: Path) -> GatewayAddress:
    """Wait until the gateway has written where it listens."""
    path, deadline = addresses_dir(folder) / f"{_NAME}.json", time.monotonic() + _START_S
    while child.poll() is None and time.monotonic() < deadline:
        if path.exists():
            address = GatewayAddress.model_validate_json(path.read_bytes())
            if address.process is not None and address.process.pid == child.pid:  # else what a killed one left behind
                return address
        time.sleep(_POLL_S)
    raise Unavailable("a gateway for the fleet did not start", why=_last_words(folder))


def _last_words(folder: Path) -> str:
    lines = (folder / "gateway.log").read_text(errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), f"it said nothing within {_START_S:g} s")


def _give(address: GatewayAddress, table: RoutingTable, token: str) -> None:
    traffic = GatewayTraffic(lambda: [address], admin_token=token, timeout_s=_PUSH_S)
    try:
        traffic.apply(table)
    finally:
        traffic.close()


def _end(child: subprocess.Popen[bytes]) -> None:
    assert child.stdin is not None
    child.stdin.close()
    try:
        child.wait(_DRAIN_S + _STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
