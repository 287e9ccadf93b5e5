"""`fleetune bench …`: the project's own measurements, from a checkout."""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from controlplane.cli.errors import plain_errors
from controlplane.cli.files import require_writable
from controlplane.domain.errors import InvalidInput

app = typer.Typer(help="Fleetune's own measurements, from a checkout.", no_args_is_help=True)


@app.callback()
def _bench() -> None:
    """Fleetune's own measurements, from a checkout."""


@app.command("search")
@plain_errors
def search(
    out: Annotated[Path, typer.Option("--json", help="File for the report.")],
    seeds: Annotated[int, typer.Option(min=1, help="Runs of every contestant on every scenario.")] = 20,
    first_seed: Annotated[int, typer.Option(min=0, help="Number of the first seed.")] = 100,
    scenario: Annotated[list[str] | None, typer.Option(help="Only these scenarios, held-out ones too.")] = None,
    contestant: Annotated[list[str] | None, typer.Option(help="Only these contestants.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = os.cpu_count() or 1,
    ladders: Annotated[int, typer.Option(min=0, help="Rate ladders per scenario; 0 leaves them out.")] = 40,
    ladder_seed: Annotated[int, typer.Option(min=0, help="Draws the ladders' configurations and noise.")] = 1,
    cache: Annotated[Path | None, typer.Option(help="Folder for the ground truth; default: the user's cache.")] = None,
) -> None:
    """Compare search strategies on the twin as ground truth. The truth is worked out once and kept in the cache."""
    require_writable(out)
    module = _from_checkout("benchmarks.search.main")
    report: dict[str, Any] = module.run(
        seeds=range(first_seed, first_seed + seeds),
        cache=_cache(cache),
        workers=workers,
        chosen=tuple(scenario or ()),
        playing=tuple(contestant or ()),
        ladders=ladders,
        ladder_seed=ladder_seed,
        say=typer.echo,
    )
    out.write_text(json.dumps(report, indent=1) + "\n")
    for line in module.summary(report):
        typer.echo(line)


@app.command("answers")
@plain_errors
def answers(
    out: Annotated[Path, typer.Option("--json", help="File for the report.")],
    seeds: Annotated[int, typer.Option(min=1, help="Studies of every scenario at every budget.")] = 20,
    first_seed: Annotated[int, typer.Option(min=0, help="Number of the first seed.")] = 100,
    budgets: Annotated[str, typer.Option(help="Engine starts, with commas between.")] = "6,8,12,20",
    scenarios: Annotated[str, typer.Option(help="Only these, with commas between.")] = "",
    held_out: Annotated[bool, typer.Option("--held-out", help="The scenarios held aside instead.")] = False,
    drawn: Annotated[int, typer.Option(min=0, help="So many scenarios drawn by chance instead.")] = 0,
    draw: Annotated[int, typer.Option(min=0, help="Number of the draw.")] = 1,
    processes: Annotated[int, typer.Option(min=1)] = os.cpu_count() or 1,
    check: Annotated[bool, typer.Option("--check", help="Exit 1 unless every target is met.")] = False,
    cache: Annotated[Path | None, typer.Option(help="Folder for the ground truth; default: the user's cache.")] = None,
    studies: Annotated[Path | None, typer.Option(help="File of ended studies, not run again.")] = None,
) -> None:
    """Run whole studies in virtual time and judge their answers by what would truly have been cheapest."""
    require_writable(out, studies)
    module = _from_checkout("benchmarks.answers.main")
    names = [name.strip() for name in scenarios.split(",") if name.strip()]

    def keep(report: dict[str, Any]) -> None:
        out.write_text(json.dumps(report, indent=1) + "\n")

    report: dict[str, Any] = module.run(
        seeds=range(first_seed, first_seed + seeds),
        budgets=_starts(budgets),
        played=module.asked(names, aside=held_out, drawn_count=drawn, draw=draw),
        processes=processes,
        cache=_cache(cache),
        say=typer.echo,
        keep=keep,
        studies=studies,
    )
    keep(report)
    for line in module.summary(report):
        typer.echo(line)
    if check and not all(target["met"] for target in report["summary"].values()):
        raise typer.Exit(1)


def _starts(text: str) -> list[int]:
    try:
        found = [int(each) for each in text.split(",")]
    except ValueError as error:
        raise InvalidInput(f"budgets {text!r}", allowed="whole numbers with commas between, e.g. 6,8,12,20") from error
    if min(found) < 1:
        raise InvalidInput(f"a budget of {min(found)} engine starts", allowed="1 and more")
    return found


def _cache(given: Path | None) -> Path:
    return given or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "fleetune"


def _from_checkout(name: str) -> Any:
    """Return a module of `benchmarks/`, which is not installed: it lies beside the package in a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "benchmarks").is_dir():
        raise InvalidInput("the benchmarks are not here", why="they are run from a checkout of Fleetune")
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    return importlib.import_module(name)
