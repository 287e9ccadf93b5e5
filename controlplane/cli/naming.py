"""What is said of names and places that people give, before anything is asked."""

from __future__ import annotations

from pathlib import Path

import typer

from controlplane.domain.errors import InvalidInput


def check_name(name: str, is_one: bool, what: str) -> None:
    """Raise InvalidInput for what cannot be a name of that kind."""
    if not is_one:
        raise InvalidInput(
            f"'{name}' is no {what}",
            allowed="a-z, 0-9, . _ and - in between; an alias: no . or _, a letter first, not latest",
        )


def tell_elsewhere(source: str) -> None:
    """Say that a folder is not here: it may be where engines run, or be misspelled."""
    if source.startswith(("/", "./", "../", "~")) and not Path(source).expanduser().exists():
        typer.echo(f"note: {source} is not on this host, so nothing of it was checked; engines must have it", err=True)
