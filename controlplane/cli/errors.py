"""The command line's edge: an expected error becomes one message on stderr and an exit code, never a traceback."""

from __future__ import annotations

import sys
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
            raise _ended(str(error), exit_code(error)) from error
        except ValueError as error:
            message = _refused_value(error)
            if message is None:
                raise
            raise _ended(message, 2) from error

    return guarded


def _refused_value(error: ValueError) -> str | None:
    """Return what a domain value says of an option it refuses; None for any other error."""
    pydantic = sys.modules.get("pydantic")  # importing it is a sixth of what a command may cost
    if pydantic is None or not isinstance(error, pydantic.ValidationError):
        return None
    from controlplane.reading.problems import describe

    return describe(error)


def _ended(message: str, code: int) -> typer.Exit:
    typer.secho(f"error: {message}", err=True, fg=typer.colors.RED)
    return typer.Exit(code)
