"""`fleetune knobs …`: the flags of a version of an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tuner.space.knobs.extract import ENGINES, as_json, extract
from tuner.space.knobs.schema import VLLM

app = typer.Typer(help="The flags an engine knows, per version.", no_args_is_help=True)


@app.callback()
def _knobs() -> None:
    """The flags an engine knows, per version."""


@app.command("extract")
def extract_command(
    source: Annotated[
        Path,
        typer.Argument(help="A saved --help; of vLLM and SGLang also a wheel or a folder that holds it."),
    ],
    out: Annotated[Path | None, typer.Option("--out", help="File to write; default: print.")] = None,
    engine: Annotated[str, typer.Option("--engine", help=f"Whose flags: {', '.join(ENGINES)}.")] = VLLM,
    version: Annotated[
        str | None, typer.Option("--version", help="What the help text is of, where it does not say so itself.")
    ] = None,
) -> None:
    """Extract the schema of flags from an engine, without importing it."""
    text = as_json(extract(source, engine, version=version))
    if out is None:
        typer.echo(text, nl=False)
    else:
        out.write_text(text)
