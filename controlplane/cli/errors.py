"""The command line's edge: an expected error becomes one message on stderr and an exit code, never a traceback."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import typer
from pydantic import ValidationError

from controlplane.domain.errors import ExperimentFailed, FleetuneError
from controlplane.domain.service import describe

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
        except ValidationError as error:  # an option's value that a domain value refuses
            raise _ended(describe(error), 2) from error

    return guarded


def _ended(message: str, code: int) -> typer.Exit:
    typer.secho(f"error: {message}", err=True, fg=typer.colors.RED)
    return typer.Exit(code)
