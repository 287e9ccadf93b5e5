from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from controlplane.cli.lazy import LazyGroup, load
from controlplane.cli.main import app


def _walk(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, LazyGroup):
        for each in command.lazy:
            yield from _walk(load(each), (*path, each.name))
    else:
        for name, inner in getattr(command, "commands", {}).items():
            yield from _walk(inner, (*path, name))


COMMANDS = tuple(_walk(get_command(app)))


def test_every_noun_is_walked() -> None:
    assert {("up",), ("tune",), ("service", "register"), ("rollout", "start")} <= set(COMMANDS)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*path, "--help"])
    assert result.exception is None
    assert result.exit_code == 0
    assert "Usage:" in result.output
    assert " ".join(path) in result.output
