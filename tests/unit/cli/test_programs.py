"""What an installation is told goes on to its processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlplane.cli.installation.programs import programs
from controlplane.gateway.__main__ import _parser
from controlplane.settings import Settings


def gateway_of(folder: Path, **told: object) -> list[str]:
    settings = Settings.model_validate({"data_dir": folder} | told)
    return list(next(each for each in programs(settings, dashboard=False) if each.name == "gateway").command)


def test_web_origins_are_allowed_only_when_they_are_named(tmp_path: Path) -> None:
    origins = ("https://chat.example", "http://localhost:3000")
    assert [word for word in gateway_of(tmp_path, cors_origins=origins) if "cors" in word] == [
        "--cors-origin=https://chat.example",
        "--cors-origin=http://localhost:3000",
    ]
    assert not [word for word in gateway_of(tmp_path) if "cors" in word]


@pytest.mark.parametrize(
    ("host", "admin", "url"),
    [
        ("127.0.0.1", "--admin-host=127.0.0.1", "http://127.0.0.1:8700"),
        ("0.0.0.0", "--admin-host=127.0.0.1", "http://127.0.0.1:8700"),
        ("::1", "--admin-host=::1", "http://[::1]:8700"),
        ("::", "--admin-host=::1", "http://[::1]:8700"),
    ],
)
def test_an_installation_on_ipv6_is_on_ipv6_altogether(tmp_path: Path, host: str, admin: str, url: str) -> None:
    assert admin in gateway_of(tmp_path, host=host)
    assert Settings(data_dir=tmp_path, host=host).api_url == url


def test_what_up_is_told_of_grpc_and_batches_its_gateway_is_told(tmp_path: Path) -> None:
    told = {"grpc_port": 9000, "batch_s3": "files/ours", "batch_tenant_bytes": 5, "batch_all_bytes": 6, "batch_days": 2}
    parsed = vars(_parser().parse_args(gateway_of(tmp_path, host="10.0.0.1", **told)[3:]))
    assert {name: parsed[name] for name in told} == told
    assert parsed["grpc_host"] == "10.0.0.1"
    plain = vars(_parser().parse_args(gateway_of(tmp_path)[3:]))
    assert (plain["grpc_port"], plain["batch_s3"], plain["batch_days"]) == (None, None, None)
