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
    scenario: Annotated[list[str] | None, typer.Option(help="Only these scenarios.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = os.cpu_count() or 1,
    ladders: Annotated[int, typer.Option(min=0, help="Rate ladders per scenario; 0 leaves them out.")] = 40,
    ladder_seed: Annotated[int, typer.Option(min=0, help="Draws the ladders' configurations and noise.")] = 1,
    cache: Annotated[Path | None, typer.Option(help="Folder for the ground truth; default: the user's cache.")] = None,
) -> None:
    """Compare search strategies on the twin as ground truth. The truth is worked out once and kept in the cache."""
    require_writable(out)
    folder = cache or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "fleetune"
    module = _from_checkout("benchmarks.search.main")
    report: dict[str, Any] = module.run(
        seeds=seeds,
        first_seed=first_seed,
        cache=folder,
        workers=workers,
        chosen=tuple(scenario or ()),
        ladders=ladders,
        ladder_seed=ladder_seed,
        say=typer.echo,
    )
    out.write_text(json.dumps(report, indent=1) + "\n")
    for line in module.summary(report):
        typer.echo(line)


def _from_checkout(name: str) -> Any:
    """Return a module of `benchmarks/`, which is not installed: it lies beside the package in a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "benchmarks").is_dir():
        raise InvalidInput("the benchmarks are not here", why="they are run from a checkout of Fleetune")
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    return importlib.import_module(name)
