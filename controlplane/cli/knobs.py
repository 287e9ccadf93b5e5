"""`fleetune knobs …`: the flags of a version of an engine."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from controlplane.cli.errors import plain_errors
from controlplane.domain.errors import InvalidInput, unreadable
from tuner.space.knobs.extract import ENGINES, as_json, extract, extract_help, help_command
from tuner.space.knobs.schema import VLLM

_HELP_S = 300.0  # engines import half of PyTorch before they say a word

app = typer.Typer(help="The flags an engine knows, per version.", no_args_is_help=True)


@app.callback()
def _knobs() -> None:
    """The flags an engine knows, per version."""


@app.command("extract")
@plain_errors
def extract_command(
    source: Annotated[
        Path | None,
        typer.Argument(
            help="A saved --help; of vLLM and SGLang also a wheel or a folder that holds it. Default: the engine "
            "installed here is asked for its --help."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="File to write; default: print.")] = None,
    engine: Annotated[str, typer.Option("--engine", help=f"Whose flags: {', '.join(ENGINES)}.")] = VLLM,
    version: Annotated[
        str | None, typer.Option("--version", help="What the help text is of, where it does not say so itself.")
    ] = None,
    run: Annotated[
        str | None,
        typer.Option("--run", help="How the engine is asked, e.g. 'docker run --rm IMAGE --help'; default: its own."),
    ] = None,
) -> None:
    """Extract the schema of flags from an engine, without importing it."""
    if source is not None and run is not None:
        raise InvalidInput("a file and --run were given", allowed="one of them")
    if source is not None:
        found = extract(source, engine, version=version)
    else:
        command = help_command(engine) if run is None else run
        found = extract_help(_asked(command), engine, version=version, source=command)
    _write(as_json(found), out)


def _write(text: str, out: Path | None) -> None:
    if out is None:
        typer.echo(text, nl=False)
        return
    try:
        out.write_text(text)
    except OSError as error:
        raise InvalidInput(f"cannot write {out}", why=unreadable(error)) from error


def _asked(command: str) -> str:
    """Return what an engine prints for its help. Raises InvalidInput."""
    allowed = "the engine's program by --run, or a file with its saved --help"
    try:
        words = shlex.split(command)
        done = subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=_HELP_S, check=False)
    except (OSError, ValueError, IndexError) as error:
        why = unreadable(error) if isinstance(error, OSError) else str(error)
        raise InvalidInput(f"cannot run `{command}`", why=why, allowed=allowed) from error
    except subprocess.TimeoutExpired as error:
        raise InvalidInput(f"`{command}` said nothing", why=f"for {_HELP_S:g} s", allowed=allowed) from error
    if done.returncode != 0:
        last = (done.stderr or done.stdout).strip().rpartition("\n")[2][:200]
        raise InvalidInput(f"`{command}` failed with {done.returncode}", why=last or "it says nothing", allowed=allowed)
    return done.stdout or done.stderr
