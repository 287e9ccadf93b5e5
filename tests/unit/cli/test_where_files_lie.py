"""What a service.yaml names as a file is the same file for whoever reads it, wherever that runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from controlplane.domain.workload import TraceWorkload
from controlplane.reading.service_file import load_service
from tests.builders_serving import a_spec


def traced(folder: Path, trace: str) -> Path:
    raw = a_spec().model_dump(mode="json") | {"workload": {"kind": "trace", "trace": trace}}
    file = folder / "service.yaml"
    file.write_text(yaml.safe_dump(raw))
    return file


def trace_of(file: Path) -> str:
    workload = load_service(file).workload
    assert isinstance(workload, TraceWorkload)
    return workload.trace


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the command runs in."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_a_trace_beside_the_service_is_found_from_anywhere(tmp_path: Path, elsewhere: Path) -> None:
    (tmp_path / "mine.csv").touch()
    assert trace_of(traced(tmp_path, "mine.csv")) == str(tmp_path / "mine.csv")


def test_a_trace_where_the_command_runs_comes_first(tmp_path: Path, elsewhere: Path) -> None:
    for folder in (tmp_path, elsewhere):
        (folder / "mine.csv").touch()
    assert trace_of(traced(tmp_path, "mine.csv")) == str(elsewhere / "mine.csv")


@pytest.mark.parametrize("name", ["azure-llm-2023/conv", "gone.csv"])
def test_a_name_that_is_no_file_stays_as_it_is(tmp_path: Path, elsewhere: Path, name: str) -> None:
    assert trace_of(traced(tmp_path, name)) == name
