"""The command line on a data folder of its own, without a server: everything happens in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from controlplane.cli.main import app
from controlplane.settings import Settings, save
from tests.builders_serving import a_spec

Fleetune = Callable[..., tuple[int, str]]


@pytest.fixture
def fleetune(tmp_path: Path) -> Fleetune:
    """Run `fleetune ARGS --data-dir …` and return its exit code and everything it printed."""
    save(Settings(data_dir=tmp_path / "data"))

    def run(*args: str, answer: str = "") -> tuple[int, str]:
        done = CliRunner().invoke(app, [*args, "--data-dir", str(tmp_path / "data")], input=answer)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.output

    return run


@pytest.fixture
def service_file(tmp_path: Path) -> Callable[..., str]:
    """Write a service.yaml with `changes` and return its path."""

    def write(file: str = "service.yaml", **changes: Any) -> str:
        path = tmp_path / file
        path.write_text(yaml.safe_dump(a_spec().model_dump(mode="json") | changes))
        return str(path)

    return write
