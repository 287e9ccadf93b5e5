"""What every command of a noun has: where to ask, with which key, and how to print the answer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec

import typer

from controlplane.cli.client import ApiClient
from controlplane.cli.errors import plain_errors
from controlplane.cli.reaching import client
from controlplane.cli.tables.show import Column, Output, as_json, as_lines, as_table, as_yaml

P = ParamSpec("P")

Api = Annotated[
    str | None, typer.Option("--api", envvar="FLEETUNE_API_URL", help="API server; default: the data folder.")
]
Key = Annotated[str | None, typer.Option("--key", envvar="FLEETUNE_API_KEY", help="API key.", show_envvar=True)]
DataDir = Annotated[Path, typer.Option(help="The installation, when no --api is named.")]
Out = Annotated[Output, typer.Option("--output", "-o", help="How to print the answer.")]
Json = Annotated[bool, typer.Option("--json", hidden=True, help="The same as -o json.")]
Service = Annotated[str | None, typer.Option(help="Only this service.")]
Limit = Annotated[int, typer.Option(help="At most this many, newest first.")]
Reason = Annotated[str, typer.Option(help="Why; kept in the audit.")]
Id = Annotated[str, typer.Argument(help="Its id.")]
HERE = Path(".fleetune")

_OPTIONS = (
    ("output", Out, Output.TABLE),
    ("json", Json, False),
    ("api", Api, None),
    ("key", Key, None),
    ("data_dir", DataDir, HERE),
)


@dataclass(frozen=True)
class Noun:
    """How the things of one kind are asked for and printed. `names` read what commands take to name one of them."""

    path: str
    columns: Sequence[Column]
    details: Sequence[Column]
    empty: str
    names: int = 1

    def name_of(self, row: Mapping[str, Any]) -> str:
        """Return what a command takes to name this thing."""
        return " ".join(str(column.read(row)) for column in self.columns[: self.names])


@dataclass(frozen=True)
class Ask:
    """One question: the server, and how its answer is to be printed."""

    client: ApiClient
    output: Output

    def show_list(self, noun: Noun, rows: Sequence[Any], *, raw: Any = None) -> None:
        """Print things of a noun; `raw` is what JSON and YAML show instead of the rows."""
        match self.output:
            case Output.TABLE | Output.WIDE:
                as_table(rows, noun.columns, empty=noun.empty, wide=self.output is Output.WIDE)
            case Output.JSON:
                as_json(rows if raw is None else raw)
            case Output.YAML:
                as_yaml(rows if raw is None else raw)
            case Output.NAME:
                for row in rows:
                    typer.echo(noun.name_of(row))

    def show_one(self, noun: Noun, thing: Any, *, details: Sequence[Column] = ()) -> None:
        """Print one thing, with more `details` than its noun has."""
        show_one(self.output, noun, thing, details=details)


def show_one(output: Output, noun: Noun, thing: Any, *, details: Sequence[Column] = ()) -> None:
    """Print one thing of a noun."""
    match output:
        case Output.TABLE | Output.WIDE:
            as_lines(thing, (*noun.details, *details))
        case Output.JSON:
            as_json(thing)
        case Output.YAML:
            as_yaml(thing)
        case Output.NAME:
            typer.echo(noun.name_of(thing))


def asks(command: Callable[Concatenate[Ask, P], None], *, of_a_new_one: bool = False) -> Callable[..., None]:
    """Make a command that has, besides its own options, those of every question; it is given an `Ask` first.

    `of_a_new_one` makes the installation when there is none: for what is wanted before the first `fleetune up`.
    """

    @wraps(command)
    @plain_errors
    def asked(**given: Any) -> None:
        output, json, api, key, data_dir = (given.pop(name) for name, _, _ in _OPTIONS)
        asked_of = client(api, key, data_dir, make=of_a_new_one)
        ask = Ask(asked_of, Output.JSON if json else output)
        command(ask, **given)  # type: ignore[call-arg]  # typer gives by name what the signature below lists

    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    common = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, kind, default in _OPTIONS
    ]
    named = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own] + common
    asked.__signature__ = inspect.Signature(named)  # type: ignore[attr-defined]
    asked.__annotations__ = {each.name: each.annotation for each in named}
    return asked


def add_list(app: typer.Typer, noun: Noun) -> None:
    """Add `list`, newest first, of one service or of all."""

    @app.command("list")
    @asks
    def list_(ask: Ask, service: Service = None, limit: Limit = 20) -> None:
        """List them, newest first."""
        answer = ask.client.get(noun.path, service=service, limit=limit)
        ask.show_list(noun, answer["items"] if isinstance(answer, dict) else answer)


def add_show(app: typer.Typer, noun: Noun) -> None:
    """Add `show` of one thing by its id."""

    @app.command("show")
    @asks
    def show(ask: Ask, id: Id) -> None:
        """Show one."""
        ask.show_one(noun, ask.client.get(f"{noun.path}/{id}"))


def add_actions(app: typer.Typer, noun: Noun, actions: Mapping[str, str]) -> None:
    """Add commands that do something to one thing, for a reason: name → help."""
    for name, help_ in actions.items():
        _add_action(app, noun, name, help_)


def _add_action(app: typer.Typer, noun: Noun, name: str, help_: str) -> None:
    @app.command(name, help=help_)
    @asks
    def act(ask: Ask, id: Id, reason: Reason = "") -> None:
        ask.show_one(noun, ask.client.post(f"{noun.path}/{id}/{name}", {"reason": reason}))
