"""What people name as a file: a pipe, a device, a folder, something huge is refused at once, with the reason."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from controlplane.cli.main import app
from controlplane.domain.errors import InvalidInput
from controlplane.reading.text_file import RECORDING_BYTES, SERVICE_BYTES, read_text
from loadtests.send.traces import load_trace

Make = Callable[[Path], None]


def a_huge_file(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**30)  # sparse


def a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


ODD: dict[str, tuple[Make, str]] = {
    "pipe": (os.mkfifo, "it is a pipe"),
    "device": (a_device, "device"),
    "folder": (Path.mkdir, "directory"),
    "huge": (a_huge_file, "larger than"),
    "missing": (lambda path: None, "o such file"),
}
READS = {
    "predict": ("predict", "-f", "FILE"),
    "tune": ("tune", "-f", "FILE"),
    "render": ("render", "-f", "FILE"),
    "calibrate": ("calibrate", "--name", "mine", "--from", "FILE"),
    "load": ("load", "-f", "FILE", "--target", "http://127.0.0.1:9"),
    "upload": ("load", "upload", "FILE", "nightly"),
    "trace": ("trace", "describe", "FILE"),
    "knobs": ("knobs", "extract", "FILE", "--engine", "sglang"),
}
WRITES = {
    "bench": ("bench", "search", "--json", "FILE"),
    "tune": ("tune", "-f", "nowhere.yaml", "--json", "FILE"),
    "calibrate": ("calibrate", "--name", "mine", "--keep", "FILE"),
    "validate": ("twin", "validate", "nowhere", "--json", "FILE"),
}


def run(words: tuple[str, ...], file: Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(file) if word == "FILE" else word for word in words])
    return result.exit_code, " ".join(result.output.split())


@pytest.mark.parametrize("command", READS)
@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_file_to_read_is_refused_at_once(command: str, kind: str, tmp_path: Path) -> None:
    make, why = ODD[kind]
    make(tmp_path / "named")
    if (command, kind) == ("knobs", "folder"):
        pytest.skip("a folder that holds an engine's sources is what it takes")
    code, text = run(READS[command], tmp_path / "named")
    assert code == 2
    assert why in text


@pytest.mark.parametrize("command", WRITES)
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_to_write_is_refused_before_any_work(command: str, kind: str, tmp_path: Path) -> None:
    ODD[kind][0](tmp_path / "named")
    code, text = run(WRITES[command], tmp_path / "named")
    assert code == 2
    assert "cannot write" in text


@pytest.mark.parametrize("option", ["--tokenizer", "--ca-file"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_a_library_would_wait_for_is_refused_before_it_does(option: str, kind: str, tmp_path: Path) -> None:
    ODD[kind][0](tmp_path / "named")
    code, text = run(("load", "-f", "chat", "--target", "https://127.0.0.1:9", option, "FILE"), tmp_path / "named")
    assert (code, "a pipe or a device" in text) == (2, True)


@pytest.mark.parametrize("kind", ODD)
def test_a_mapping_that_a_service_names_is_read_alike(kind: str, tmp_path: Path) -> None:
    make, why = ODD[kind]
    make(tmp_path / "mapping.yaml")
    (tmp_path / "service.yaml").write_text("engine: {kind: command, mapping: mapping.yaml}\n")
    code, text = run(READS["predict"], tmp_path / "service.yaml")
    assert code == 2
    assert why in text


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00", b"[" * 100_000, b"2024-13-45", b"", b"{}", b"[1]", b"null", b'"x"']
)
@pytest.mark.parametrize("command", ["predict", "calibrate", "load", "upload"])
def test_a_file_of_something_else_is_refused_without_a_traceback(command: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "named").write_bytes(content)
    code, text = run(READS[command], tmp_path / "named")
    assert (code, "Traceback" in text) == (2, False)


def test_a_small_file_that_holds_gigabytes_is_no_trace(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv.gz"
    with gzip.open(file, "wb", compresslevel=1) as packed:
        for _ in range(RECORDING_BYTES // 2**20 + 1):
            packed.write(bytes(2**20))
    with pytest.raises(InvalidInput, match="holds more than 256 MiB"):
        load_trace(str(file))


def test_as_much_as_is_allowed_is_read(tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_text("x" * SERVICE_BYTES)
    assert len(read_text(file)) == SERVICE_BYTES
    file.write_text("x" * (SERVICE_BYTES + 1))
    with pytest.raises(OSError, match="larger than 16 MiB"):
        read_text(file)
