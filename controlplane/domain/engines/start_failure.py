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
    UNSCHEDULABLE = "unschedulable"  # a cluster or a host found no place for it
    IMAGE_PULL = "image_pull"
    NODE_LOST = "node_lost"  # or the cluster took it away
    OTHER = "other"

    @property
    def in_words(self) -> str:
        return self.value.replace("_", " ")

    @property
    def is_infeasible(self) -> bool:
        """True when trying the same configuration again must fail again."""
        return self in (StartFailure.OUT_OF_MEMORY, StartFailure.REFUSED_FLAG)

    @property
    def may_pass(self) -> bool:
        """True when waiting helps: the place it was to run in, or what it was to load, was not there for a while."""
        match self:
            case StartFailure.TIMEOUT | StartFailure.UNSCHEDULABLE | StartFailure.IMAGE_PULL | StartFailure.NODE_LOST:
                return True
            case StartFailure.OUT_OF_MEMORY | StartFailure.REFUSED_FLAG | StartFailure.PORT:
                return False
            case StartFailure.CRASHED | StartFailure.OTHER:
                return False

    @property
    def is_of_the_world(self) -> bool:
        """True when the place it was to run in failed, not the engine: it says nothing of its revision."""
        match self:
            case StartFailure.PORT | StartFailure.UNSCHEDULABLE | StartFailure.IMAGE_PULL | StartFailure.NODE_LOST:
                return True
            case StartFailure.OUT_OF_MEMORY | StartFailure.REFUSED_FLAG | StartFailure.TIMEOUT:
                return False
            case StartFailure.CRASHED | StartFailure.OTHER:
                return False
