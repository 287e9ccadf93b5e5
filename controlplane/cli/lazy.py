"""A group of commands whose modules are imported when they are called, so that `--help` and `list` start at once."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group


class Lazy(NamedTuple):
    """Where a command is: `module:attribute` is a function, or the Typer of a group. `help` is what `--help` lists."""

    name: str
    at: str
    help: str
    hidden: bool = False


class LazyGroup(TyperGroup):
    """Lists its commands without importing them; subclasses name them in `lazy`."""

    lazy: Sequence[Lazy] = ()

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names in the order they are listed."""
        return [each.name for each in self.lazy]

    def get_command(self, ctx: Any, cmd_name: str) -> TyperCommand | None:
        """Return a name and a help text only: for lists and completion. `resolve_command` returns the real one."""
        found = next((each for each in self.lazy if each.name == cmd_name), None)
        return None if found is None else _listed(found)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Import what is called."""
        name, listed, rest = super().resolve_command(ctx, args)
        found = next((each for each in self.lazy if listed is not None and each.name == listed.name), None)
        return name, listed if found is None else load(found), rest


def load(command: Lazy) -> Any:
    """Import a command's module and return the command itself, with its help as plain text."""
    return _plain(_imported(command))


def _imported(command: Lazy) -> Any:
    module, _, attribute = command.at.partition(":")
    found = getattr(importlib.import_module(module), attribute)
    if isinstance(found, typer.Typer):
        group = get_group(found)
        group.name = command.name
        return group
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    alone.command(command.name)(found)
    return get_command(alone)


def _listed(command: Lazy) -> TyperCommand:
    return TyperCommand(command.name, help=command.help, short_help=command.help, hidden=command.hidden)


def _plain(command: Any) -> Any:
    """Take the panels away: at 80 columns they cut names of options, and what stands in brackets they take for markup.

    A list says the whole first paragraph of each.
    """
    command.rich_markup_mode = None
    command.short_help = command.short_help or (command.help or "").partition("\n\n")[0]
    for below in getattr(command, "commands", {}).values():
        _plain(below)
    return command
