"""Which gateways a data folder's addresses stand for."""

from __future__ import annotations

from pathlib import Path

from controlplane.adapters.gateway.traffic import running_gateways
from controlplane.domain.door.gateway_files import addresses_dir
from controlplane.domain.door.routing import GatewayAddress
from controlplane.domain.process import ProcessId
from controlplane.host.processes import this_process

HERE = this_process()
"""Known by what no step of the clock moves: a gateway once vanished when it was set forward by 2 s."""


def write(data_dir: Path, name: str, process: ProcessId) -> None:
    address = GatewayAddress(name=name, url="http://a", admin_url="http://b", process=process)
    addresses_dir(data_dir).mkdir(parents=True, exist_ok=True)
    (addresses_dir(data_dir) / f"{name}.json").write_text(address.model_dump_json())


def test_an_empty_folder_has_none(tmp_path: Path) -> None:
    assert list(running_gateways(tmp_path)()) == []


def test_those_whose_process_lives_are_found_at_each_call(tmp_path: Path) -> None:
    find = running_gateways(tmp_path)
    write(tmp_path, "gw-2", HERE)
    assert [address.name for address in find()] == ["gw-2"]
    write(tmp_path, "gw-1", HERE)
    assert [address.name for address in find()] == ["gw-1", "gw-2"]


def test_a_gateway_that_died_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, "gone", HERE.evolve(pid=2**22 + 1))  # above Linux's largest process id
    assert list(running_gateways(tmp_path)()) == []


def test_a_later_process_with_its_number_is_another_one(tmp_path: Path) -> None:
    write(tmp_path, "reused", HERE.evolve(started_ticks=HERE.started_ticks - 1))
    write(tmp_path, "before-the-boot", HERE.evolve(boot_id="an earlier one"))
    assert list(running_gateways(tmp_path)()) == []


def test_what_is_no_address_is_left_out(tmp_path: Path) -> None:
    addresses_dir(tmp_path).mkdir(parents=True)
    (addresses_dir(tmp_path) / "odd.json").write_text("{}")
    assert list(running_gateways(tmp_path)()) == []
