"""Engines that give their GPUs' memory back for a while and keep their process."""

from __future__ import annotations

from typing import Protocol

from controlplane.domain.engines.fleet import Engine


class EngineSleeper(Protocol):
    """Puts running engines to sleep and wakes them. Every method raises Unavailable when the engine does not answer."""

    def is_sleeping(self, engine: Engine) -> bool:
        """Say whether an engine sleeps. Raises InvalidInput for one that cannot."""

    def sleep(self, engine: Engine, *, level: int = 1) -> None:
        """Let what runs end, then put the weights into host memory (1) or drop them (2); one that sleeps stays so.

        Returns when it sleeps. Raises InvalidInput for one that cannot.
        """

    def wake(self, engine: Engine, *, level: int = 1) -> None:
        """Bring back weights that were put away at a level, reading them anew at 2.

        Returns when it can be given requests. One that is awake stays so.
        """
