from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from controlplane.cli.lazy import LazyGroup, load
from controlplane.cli.main import app

Path = tuple[str, ...]


def _walk(command: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    yield path, command
    if isinstance(command, LazyGroup):
        for each in command.lazy:
            yield from _walk(load(each), (*path, each.name))
    else:
        for name, inner in getattr(command, "commands", {}).items():
            yield from _walk(inner, (*path, name))


COMMANDS = dict(_walk(get_command(app)))


def _letters(text: str) -> str:
    return re.sub(r"[\W_]+", "", text)


def test_every_noun_is_walked() -> None:
    assert {("up",), ("tune",), ("service", "register"), ("rollout", "start")} <= set(COMMANDS)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_explains_itself_with_every_name_and_word(path: Path) -> None:
    result = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "80"})
    assert result.exception is None
    assert result.exit_code == 0
    assert "Usage:" in result.output
    assert " ".join(path) in result.output
    shown = [each for each in COMMANDS[path].params if not getattr(each, "hidden", False)]
    names = {name for each in shown for name in each.opts if name.startswith("-")}
    assert names <= set(re.split(r"[\s,]+", result.output))
    texts = [each.help for each in shown if getattr(each, "help", None)]
    assert not [text for text in texts if _letters(text) not in _letters(result.output)]


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_an_installations_folder_has_one_name(path: Path) -> None:
    options = [each.opts for each in COMMANDS[path].params if "--data" in each.opts or "--data-dir" in each.opts]
    assert all("--data-dir" in named for named in options)


def test_says_its_version() -> None:
    said = CliRunner().invoke(app, ["--version"])
    assert said.exit_code == 0
    assert said.stdout == f"fleetune {version('fleetune')}\n"
