"""`fleetune knobs …`: the flags of a vLLM version."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tuner.space.knobs.extract import as_json, extract

app = typer.Typer(help="The flags `vllm serve` knows, per version.", no_args_is_help=True)


@app.callback()
def _knobs() -> None:
    """The flags `vllm serve` knows, per version."""


@app.command("extract")
def extract_command(
    source: Annotated[Path, typer.Argument(help="A vLLM wheel, a folder that holds vllm/, or a saved --help=all.")],
    out: Annotated[Path | None, typer.Option("--out", help="File to write; default: print.")] = None,
) -> None:
    """Extract the schema of flags from a vLLM, without importing it."""
    text = as_json(extract(source))
    if out is None:
        typer.echo(text, nl=False)
    else:
        out.write_text(text)
