"""EngineSleeper in memory."""

from __future__ import annotations

from collections.abc import Callable

from controlplane.domain.base import EngineId
from controlplane.domain.engines.fleet import Engine
from controlplane.domain.errors import InvalidInput, Unavailable


def _nothing(_: Engine) -> None:
    return None


class FakeSleeper:
    """`unable` cannot sleep, `silent` do not answer; `before_sleep` is called once an engine is told to sleep."""

    def __init__(self, *, before_sleep: Callable[[Engine], None] = _nothing) -> None:
        self.asleep: set[EngineId] = set()
        self.unable: set[EngineId] = set()
        self.silent: set[EngineId] = set()
        self.before_sleep = before_sleep
        self.told: list[tuple[str, EngineId]] = []

    def is_sleeping(self, engine: Engine) -> bool:
        self._check(engine)
        return engine.spec.engine_id in self.asleep

    def sleep(self, engine: Engine, *, level: int = 1) -> None:
        self._check(engine)
        self.before_sleep(engine)
        self.told.append(("sleep", engine.spec.engine_id))
        self.asleep.add(engine.spec.engine_id)

    def wake(self, engine: Engine, *, level: int = 1) -> None:
        self._check(engine)
        self.told.append(("wake", engine.spec.engine_id))
        self.asleep.discard(engine.spec.engine_id)

    def _check(self, engine: Engine) -> None:
        if engine.spec.engine_id in self.silent:
            raise Unavailable(f"{engine.spec.engine_id} does not answer")
        if engine.spec.engine_id in self.unable:
            raise InvalidInput(f"{engine.spec.engine_id} cannot sleep", why="it has no /sleep")
