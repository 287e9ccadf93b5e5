"""What the saved state wants of the fleet: how many engines of which revision. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from controlplane.domain.base import RevisionId
from controlplane.domain.rollouts.rollout import Rollout, RolloutState
from controlplane.services.fleet.world import World


class Want(NamedTuple):
    """Replicas of one revision, and engines to keep warm beyond them. `may_start` False keeps what runs.

    `keep` are engines beyond both that stay where they run and are not started again: a revision to roll back to.
    """

    replicas: int
    may_start: bool = True
    warm: int = 0
    keep: int = 0


def wants(world: World) -> Mapping[RevisionId, Want]:
    """Return the replicas that the saved state asks for; engines of any other revision are to go."""
    service, rollout = world.service, world.rollout
    if service.stopped:
        return {}
    stable = {service.stable: _stable(world)} if service.stable else {}
    if world.ab_test is not None:
        return {**stable, **{arm.revision: Want(arm.replicas) for arm in world.ab_test.challengers}}
    kept = _kept(world)
    if rollout is None:
        return {**kept, **stable}
    if rollout.state in (RolloutState.ABORTING, RolloutState.ABORTED):
        return stable
    keep = kept[rollout.canary].keep if rollout.canary in kept else 0
    canary = {rollout.canary: Want(rollout.replicas_needed, keep=keep)}
    if rollout.wants_control and service.stable:
        stable = {service.stable: Want(service.stable_replicas + 1)}
    if rollout.state in (RolloutState.PROMOTING, RolloutState.HALTED):
        return {**kept, **_leaving(world, rollout), **canary}
    return {**stable, **canary}


def _stable(world: World) -> Want:
    """On shared GPUs an engine starts only in its turn, once the others sleep; what runs stays, asleep."""
    replicas = world.service.stable_replicas
    if world.turns is None:
        return Want(replicas, warm=world.keeps_warm)
    if not world.has_turn:
        return Want(0, may_start=False, warm=replicas)
    return Want(replicas, may_start=world.turns.clear)


def _leaving(world: World, rollout: Rollout) -> Mapping[RevisionId, Want]:
    """The former stable stays until every canary replica is ready; when halted, what is left of it stays.

    Where it is kept for a roll-back it stays beyond that.
    """
    former, replicas = world.service.stable, world.service.stable_replicas
    covered = len(world.ready(rollout.canary)) >= rollout.canary_replicas
    if former is None:
        return {}
    if covered and rollout.state is RolloutState.PROMOTING:
        return {former: Want(0, may_start=False, keep=replicas)} if rollout.options.keep_former_s else {}
    return {former: Want(replicas, may_start=False)}


def _kept(world: World) -> Mapping[RevisionId, Want]:
    former = world.former
    return {} if former is None else {former.revision: Want(0, may_start=False, keep=former.replicas)}
