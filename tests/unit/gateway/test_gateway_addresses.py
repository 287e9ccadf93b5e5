"""Which gateways a data folder's addresses stand for."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from controlplane.adapters.gateway.traffic import running_gateways
from controlplane.domain.gateway_files import addresses_dir
from controlplane.domain.routing import GatewayAddress

HERE = os.getpid()


def write(data_dir: Path, name: str, *, pid: int, started_at: datetime) -> None:
    address = GatewayAddress(name=name, url="http://a", admin_url="http://b", pid=pid, started_at=started_at)
    addresses_dir(data_dir).mkdir(parents=True, exist_ok=True)
    (addresses_dir(data_dir) / f"{name}.json").write_text(address.model_dump_json())


def test_an_empty_folder_has_none(tmp_path: Path) -> None:
    assert list(running_gateways(tmp_path)()) == []


def test_those_whose_process_lives_are_found_at_each_call(tmp_path: Path) -> None:
    find = running_gateways(tmp_path)
    now = datetime.now(UTC)
    write(tmp_path, "gw-2", pid=HERE, started_at=now)
    assert [address.name for address in find()] == ["gw-2"]
    write(tmp_path, "gw-1", pid=HERE, started_at=now)
    assert [address.name for address in find()] == ["gw-1", "gw-2"]


def test_a_gateway_that_died_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, "gone", pid=2**22 + 1, started_at=datetime.now(UTC))  # above Linux's largest process id
    assert list(running_gateways(tmp_path)()) == []


def test_a_later_process_with_its_number_is_another_one(tmp_path: Path) -> None:
    write(tmp_path, "reused", pid=HERE, started_at=datetime.now(UTC) - timedelta(days=400))
    assert list(running_gateways(tmp_path)()) == []


def test_what_is_no_address_is_left_out(tmp_path: Path) -> None:
    addresses_dir(tmp_path).mkdir(parents=True)
    (addresses_dir(tmp_path) / "odd.json").write_text("{}")
    assert list(running_gateways(tmp_path)()) == []
