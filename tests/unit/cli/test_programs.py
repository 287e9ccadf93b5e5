"""What an installation is told goes on to its processes."""

from __future__ import annotations

from pathlib import Path

from controlplane.cli.installation.programs import programs
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
