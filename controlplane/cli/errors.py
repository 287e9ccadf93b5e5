"""The command line's edge: an expected error becomes one message on stderr and an exit code, never a traceback."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import typer

from controlplane.domain.errors import ExperimentFailed, FleetuneError

P = ParamSpec("P")
R = TypeVar("R")


def exit_code(error: FleetuneError) -> int:
    """Return 1 when an experiment failed, 2 when what the user asked for cannot be (or not now)."""
    return 1 if isinstance(error, ExperimentFailed) else 2


def plain_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Make a command end with `error: what: why (allowed: ...)` instead of raising an expected error."""

    @wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except FleetuneError as error:
            typer.secho(f"error: {error}", err=True, fg=typer.colors.RED)
            raise typer.Exit(exit_code(error)) from error

    return guarded
