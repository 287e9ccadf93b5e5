"""Why an engine did not start, or ended: what a fleet says and a study decides by."""

from __future__ import annotations

from enum import StrEnum


class StartFailure(StrEnum):
    """Why an engine did not become ready. The first two are deterministic: the configuration is infeasible."""

    OUT_OF_MEMORY = "out_of_memory"
    REFUSED_FLAG = "refused_flag"
    PORT = "port"
    TIMEOUT = "timeout"
    CRASHED = "crashed"  # was ready once, then exited
    OTHER = "other"

    @property
    def is_infeasible(self) -> bool:
        """True when trying the same configuration again must fail again."""
        return self in (StartFailure.OUT_OF_MEMORY, StartFailure.REFUSED_FLAG)
