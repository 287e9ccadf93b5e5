"""Which engines of a service are to go: of unwanted revisions all, else the least useful ones. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from controlplane.domain.base import EngineId, RevisionId
from controlplane.domain.engines.fleet import Engine, EngineState
from controlplane.services.fleet.wanted import Want, wants
from controlplane.services.fleet.world import WANTED, World, revision_served_by


def surplus(world: World, in_flight: Callable[[EngineId], int | None]) -> Sequence[Engine]:
    """Return the engines to send away. `in_flight` is asked of a revision's engines only where some of them stay.

    Those that are reclaimed go by their notice, whatever is wanted.
    """
    wanted = wants(world)
    going: list[Engine] = []
    for revision in sorted({found for engine in world.engines if (found := revision_served_by(engine))}):
        if revision in wanted:
            going += _least_useful(world, revision, wanted[revision], in_flight)
        else:
            going += [each for each in world.of(revision) if each.state in WANTED]
    return going


def kept(world: World) -> Sequence[Engine]:
    """Return the engines that nobody asks anything, kept for a roll-back that has not come."""
    former = world.former if world.rollout is None else None
    return [] if former is None else [each for each in world.of(former.revision) if each.state in WANTED]


def reclaimed(world: World) -> Sequence[Engine]:
    """Return the engines that are to finish by their notice: those that no request is sent to any more."""
    there = [each for each in world.engines if world.is_reclaimed(each) and not each.state.is_over]
    return [each for each in there if each not in world.ready(revision_served_by(each))]


def _least_useful(
    world: World, revision: RevisionId, want: Want, in_flight: Callable[[EngineId], int | None]
) -> Sequence[Engine]:
    live, kept = list(world.live(revision)), want.replicas + want.warm + want.keep
    if not kept < len(live):
        return ()
    if kept:
        busy = {engine.spec.engine_id: in_flight(engine.spec.engine_id) or 0 for engine in live}
        live.sort(key=lambda each: _sleepers_last(world, each, busy[each.spec.engine_id]))
    staying = _with_floor(live, world.floor(want.replicas), kept)
    going = [each for each in live if each not in staying]
    if all(each.state is EngineState.READY for each in staying):
        return going
    return [each for each in going if world.service.spec.spot is None or each.state is not EngineState.READY]


def _with_floor(live: Sequence[Engine], floor: int, kept: int) -> Sequence[Engine]:
    """Return the most useful ones, among them so many on demand as there are to be."""
    firm = [each for each in live if not each.spec.spot][:floor]
    rest = [each for each in live if each not in firm]
    return [*firm, *rest[: max(0, kept - len(firm))]]


def _sleepers_last(world: World, engine: Engine, busy: int) -> tuple[bool, bool, bool, int, datetime]:
    return engine.spec.engine_id in world.asleep, *_least_useful_last(engine, busy)


def _least_useful_last(engine: Engine, busy: int) -> tuple[bool, bool, int, datetime]:
    """Those that answer first, the busiest of them first: the one with the least to finish goes."""
    return engine.state is not EngineState.READY, not engine.answers, -busy, engine.started_at
