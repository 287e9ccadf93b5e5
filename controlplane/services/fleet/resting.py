"""Which engines of a service are kept warm without traffic, and which of them may be asleep: in the store.

The controller writes who rests, once no gateway sends them anything; the warm pool's pass writes who may be asleep
before it puts one to sleep, and takes it back after it woke. Where services share GPUs, the pass that gives them their
turns writes that, and whose turn it is. So an engine that may be asleep is never routed to, whoever dies in between.
"""

from __future__ import annotations

from collections.abc import Callable

from pydantic import Field

from controlplane.domain.base import EngineId, ServiceName, Value
from controlplane.domain.operations.turns import Turns
from controlplane.domain.serving import Service
from controlplane.ports.store import Store, Versioned
from controlplane.services.kept import read_kept


class Resting(Value):
    """Engines of one service, sorted."""

    engines: tuple[EngineId, ...] = Field(default=())


def read_resting(store: Store, service: ServiceName) -> frozenset[EngineId]:
    """Return the engines that rest: they get no traffic and may be put to sleep."""
    return _read(store, f"resting/{service}")


def write_resting(store: Store, service: ServiceName, engines: frozenset[EngineId]) -> None:
    """Keep who rests, where it is news. Raises StaleVersion."""
    _change(store, f"resting/{service}", lambda _: engines)


def read_asleep(store: Store, service: ServiceName) -> frozenset[EngineId]:
    """Return the engines that may be asleep."""
    return _read(store, f"asleep/{service}")


def note_asleep(store: Store, service: ServiceName, engine: EngineId) -> None:
    """Write down that an engine may be asleep from now on. Raises StaleVersion."""
    _change(store, f"asleep/{service}", lambda known: known | {engine})


def note_awake(store: Store, service: ServiceName, *engines: EngineId) -> None:
    """Write down that engines are awake, or gone. Raises StaleVersion."""
    _change(store, f"asleep/{service}", lambda known: known - set(engines))


def read_turns(store: Store, pool: str) -> Versioned[Turns]:
    """Return whose turn it is on the GPUs that services of a pool share."""
    return read_kept(store, f"turns/{pool}", Turns.model_validate_json, Turns())


def write_turns(store: Store, pool: str, turns: Turns, version: int) -> int:
    """Keep whose turn it is. Raises StaleVersion."""
    return store.write_setting(f"turns/{pool}", turns.model_dump_json(), version)


def turns_of(store: Store, service: Service) -> Turns | None:
    """Return the turns of a service's pool, None where it shares its GPUs with nobody."""
    shares = service.spec.shares
    return None if shares is None else read_turns(store, shares.pool).value


def _read(store: Store, setting: str) -> frozenset[EngineId]:
    return frozenset(read_kept(store, setting, Resting.model_validate_json, Resting()).value.engines)


def _change(store: Store, setting: str, to: Callable[[frozenset[EngineId]], frozenset[EngineId]]) -> None:
    saved = read_kept(store, setting, Resting.model_validate_json, Resting())
    before = frozenset(saved.value.engines)
    after = to(before)
    if after != before:
        store.write_setting(setting, Resting(engines=tuple(sorted(after))).model_dump_json(), saved.version)
