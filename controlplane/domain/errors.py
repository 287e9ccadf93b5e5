"""The one error tree of Fleetune.

    FleetuneError
    ├── InvalidInput            what the user gave cannot be used        CLI exit 2, HTTP 422
    ├── NotFound                no such study, rollout, revision, ...    CLI exit 2, HTTP 404
    ├── Conflict                the state does not allow it              CLI exit 2, HTTP 409
    │   ├── StaleVersion        somebody else saved first                retried by the caller
    │   └── Deposed             another controller leads                 the process ends
    ├── Refused                 key missing or wrong                     CLI exit 2, HTTP 401
    │   └── Forbidden           the key is right and may not do this     CLI exit 2, HTTP 403
    └── Unavailable             something outside did not answer         CLI exit 2, HTTP 503
        └── ExperimentFailed    it ran, and came to no result            CLI exit 1, HTTP 503

An error says *what* is wrong, *why*, and what is *allowed*; each edge (CLI, API, gateway) translates the tree once.
"""

from __future__ import annotations


class FleetuneError(Exception):
    """Base of every expected error. `str(error)` is a message fit for a person."""

    def __init__(self, what: str, *, why: str = "", allowed: str = "") -> None:
        self.what = what
        self.why = why
        self.allowed = allowed
        super().__init__(what)

    def __str__(self) -> str:
        parts = [self.what]
        if self.why:
            parts.append(f": {self.why}")
        if self.allowed:
            parts.append(f" (allowed: {self.allowed})")
        return "".join(parts)


def unreadable(error: Exception) -> str:
    """Return why a file could not be read, without its name and error number, which the message around it has."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


class InvalidInput(FleetuneError):
    """What the user gave cannot be used as it is."""


class NotFound(FleetuneError):
    """The thing that was named does not exist."""


class Conflict(FleetuneError):
    """The present state does not allow the action."""


class StaleVersion(Conflict):
    """A guarded write lost against another writer; load again and decide anew."""


class Deposed(Conflict):
    """A write of a controller that does not lead any more: another has taken over."""


class Refused(FleetuneError):
    """No valid credentials for the action."""


class Forbidden(Refused):
    """Valid credentials that do not reach so far."""


class Unavailable(FleetuneError):
    """Something outside this process did not answer or broke."""


class ExperimentFailed(Unavailable):
    """A study, a rollout or a demo ran and came to no result; what it saw is kept."""
