"""A flag file made of the engine that is installed, by one command; what cannot be read is one message."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from controlplane.cli.knobs import app

HELP = "options:\n  --ctx-size N   size of the prompt context (default: 4096)\n  --mlock   keep it in memory\n"


def extract(*words: str) -> Result:
    return CliRunner().invoke(app, ["extract", *words])


def a_program(folder: Path, body: str) -> str:
    program = folder / "engine.py"
    program.write_text(f"import sys\n{body}")
    return f"{sys.executable} {program} --help"


def test_the_engine_itself_is_asked_and_its_flags_are_written(tmp_path: Path) -> None:
    run, out = a_program(tmp_path, f"print({HELP!r})"), tmp_path / "flags.json"
    done = extract("--engine", "llama.cpp", "--version", "b9", "--run", run, "--out", str(out))
    assert done.exit_code == 0, done.output
    found = json.loads(out.read_text())
    assert (found["engine"], found["version"], found["source"]) == ("llama.cpp", "b9", run)
    assert set(found["flags"]) == {"ctx-size", "mlock"}


def test_a_saved_help_gives_the_same_flags(tmp_path: Path) -> None:
    (tmp_path / "help.txt").write_text(HELP)
    done = extract(str(tmp_path / "help.txt"), "--engine", "llama.cpp")
    assert set(json.loads(done.output)["flags"]) == {"ctx-size", "mlock"}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("sys.exit('no CUDA here')", "failed with 1: no CUDA here"),
        ("print('hello')", "no flags in the help text"),
    ],
)
def test_an_engine_that_tells_no_flags_is_one_message(tmp_path: Path, body: str, says: str) -> None:
    done = extract("--engine", "tgi", "--run", a_program(tmp_path, body))
    assert done.exit_code == 2
    assert says in done.output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("{}/missing.txt", "--engine", "tgi"), "no such file or folder"),
        (("{}/random.bin", "--engine", "tgi"), "it is no text"),
        (("{}/random.bin",), "it is no text"),
        (("{}/random.bin", "--engine", "embed"), "no flag file can be made of embed"),
        (("--engine", "embed"), "no flag file can be made of embed"),
        (("--engine", "tgi", "--run", "/no/such/engine --help"), "cannot run `/no/such/engine --help`: No such file"),
        (("--engine", "tgi", "--run", ""), "cannot run ``"),
        (("{}/random.bin", "--run", "x"), "a file and --run were given"),
        (("{}/help.txt", "--engine", "tgi", "--out", "{}/no/folder.json"), "cannot write"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    (tmp_path / "random.bin").write_bytes(bytes(range(128, 256)))
    (tmp_path / "help.txt").write_text(HELP)
    done = extract(*(word.format(tmp_path) for word in words))
    assert done.exit_code == 2
    assert says in done.output
    assert done.output.startswith("error: ")
    assert done.output.count("\n") == 1
