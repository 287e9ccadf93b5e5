"""What `fleetune status` says of an installation of this host that does not run."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from controlplane.cli.main import app
from controlplane.host.processes import this_process
from controlplane.settings import Settings, save
from controlplane.wiring.machine import open_store


def an_installation(folder: Path) -> Path:
    settings = Settings(data_dir=folder)
    save(settings)
    open_store(settings).close()
    return folder


def test_an_installation_that_is_not_up_is_not_all_right_whatever_its_store_says(tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["status", "--data-dir", str(an_installation(tmp_path))])
    assert told.exit_code == 1
    assert "is not up: `fleetune up" in told.output
    assert "everything is all right" not in told.output


def test_one_whose_supervisor_runs_is_as_its_store_says(tmp_path: Path) -> None:
    folder = an_installation(tmp_path)
    (folder / "processes.json").write_text(json.dumps({"supervisor": this_process().model_dump(mode="json")}))
    told = CliRunner().invoke(app, ["status", "--data-dir", str(folder)])
    assert (told.exit_code, "everything is all right" in told.output) == (0, True)
