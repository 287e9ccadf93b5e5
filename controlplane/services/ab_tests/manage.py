"""What people do with A/B tests: start one, with a plan said beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from pydantic import Field

from controlplane.domain.ab_tests.ab_test import MOST_ARMS, AbArm, AbOptions, AbTest, AbTestId
from controlplane.domain.ab_tests.metrics import AbMetric
from controlplane.domain.ab_tests.policy import event_of
from controlplane.domain.base import RevisionId, ServiceName, Value
from controlplane.domain.errors import Conflict, InvalidInput
from controlplane.domain.revision import Revision
from controlplane.domain.serving import Service
from controlplane.ports.gateways import JudgedFeed, RecordSource, ScoreFeed
from controlplane.ports.store import Store
from controlplane.services.ab_tests.planned import Expected, last_day, plan
from controlplane.services.capacities import keep_revision
from controlplane.services.rollouts.manage import refuse_beside_rollout, revision_of
from controlplane.services.rollouts.shares import refuse_during_ab_test, refuse_on_shared_gpus

CONTROL = "stable"


class ArmWish(Value):
    """One arm as a person names it."""

    what: str = Field(
        description="`stable`, a revision of the service, or MODEL@VERSION of the registry with stable's flags.",
        examples=["stable", "llama@candidate", "rev-0123456789ab"],
    )
    share_percent: int = Field(ge=1, le=99)
    replicas: int | None = Field(default=None, ge=1, description="None: the control's, by the shares.")


class Asked(NamedTuple):
    """What a test is to find out."""

    arms: Sequence[ArmWish]
    options: AbOptions
    question: str = ""
    expected: Expected | None = None


def start_ab_test(
    store: Store,
    records: RecordSource,
    scores: ScoreFeed | None,
    judged: JudgedFeed | None = None,
    *,
    service: ServiceName,
    asked: Asked,
    actor: str,
    now: datetime,
) -> AbTest:
    """Save a new test with its plan; the controller starts engines and splits the traffic.

    Raises NotFound for an unknown service, revision or version, Conflict when a rollout or another test is under way or
    nothing serves, InvalidInput for arms that cannot be or do not fit the GPUs, and where too little is known to plan.
    """
    found = store.get_service(service).value
    refuse_beside_rollout(store, service)
    _check_serves(found)
    refuse_during_ab_test(store, service, "tested")
    refuse_on_shared_gpus(found, "tested")
    _check_judge(found, asked.options)
    revisions = [_revision(store, found, wish.what, now) for wish in asked.arms]
    arms = _arms(found, asked.arms, revisions)
    test = AbTest(
        test_id=AbTestId(f"{service}-ab{store.next_number(f'ab-test/{service}')}"),
        service=service,
        question=asked.question,
        arms=arms,
        options=asked.options,
        judge=None if found.spec.ab_judge is None else found.spec.ab_judge.digest,
        plan=plan(last_day(records, scores, judged, found, revisions[0], now), arms, asked.options, asked.expected),
        reason="challengers are to be started",
        created_at=now,
        created_by=actor,
    )
    for revision in revisions:
        keep_revision(store, revision, found.spec)
    store.save_ab_test(test, 0, events=[event_of(test, actor=actor, now=now)])
    return test


def _check_serves(service: Service) -> None:
    if service.stopped or service.stable is None or not service.stable_replicas:
        raise Conflict(f"{service.name} serves nothing to test against", allowed="start it first")


def _check_judge(service: Service, options: AbOptions) -> None:
    """Raises InvalidInput when the judge is to decide and none can."""
    judge = service.spec.ab_judge
    if options.metric is not AbMetric.JUDGE or (judge is not None and judge.tenants):
        return
    why = "the service has no judge command" if judge is None else "no tenant allows it to be given what they ask"
    allowed = "ab_judge of service.yaml with `command` and `tenants`, set by an admin; or another metric"
    raise InvalidInput(f"no judge can decide a test of {service.name}", why=why, allowed=allowed)


def _revision(store: Store, service: Service, what: str, now: datetime) -> Revision:
    assert service.stable is not None, "checked before"
    stable = store.get_revision(service.stable)
    if what in (CONTROL, service.stable):
        return stable
    if "@" not in what:
        found = store.get_revision(RevisionId(what))
        if found.service != service.name:
            raise InvalidInput(f"{what} is no revision of {service.name}", why=f"it belongs to {found.service}")
        return found
    name, _, reference = what.partition("@")
    source = store.get_model(name).value.find(reference).source
    spec = service.spec.evolve(model=service.spec.model.evolve(path=source))
    return revision_of(spec, stable.config, now=now)


def _arms(service: Service, wishes: Sequence[ArmWish], revisions: Sequence[Revision]) -> tuple[AbArm, ...]:
    """Return the arms, the control first. Raises InvalidInput."""
    names = [revision.revision_id for revision in revisions]
    if not 2 <= len(names) <= MOST_ARMS or names[0] != service.stable:
        given = ", ".join(wish.what for wish in wishes) or "none"
        allowed = f"2 to {MOST_ARMS} arms, `{CONTROL}` the first"
        raise InvalidInput("these arms make no test", why=f"they are {given}", allowed=allowed)
    same = [wish.what for wish, name in zip(wishes, names, strict=True) if names.count(name) > 1]
    if same:
        raise InvalidInput(
            "two arms are the same", why=f"{' and '.join(same)} are one revision", allowed="different ones"
        )
    total = sum(wish.share_percent for wish in wishes)
    if total != 100:
        raise InvalidInput("the shares are not everything", why=f"they sum to {total} %", allowed="100 %")
    per_share = service.stable_replicas / wishes[0].share_percent
    arms = tuple(
        AbArm(
            revision=name,
            share_percent=wish.share_percent,
            replicas=service.stable_replicas
            if place == 0
            else wish.replicas or max(1, round(per_share * wish.share_percent)),
            label=wish.what,
        )
        for place, (wish, name) in enumerate(zip(wishes, names, strict=True))
    )
    _check_gpus(service, arms, revisions)
    return arms


def _check_gpus(service: Service, arms: Sequence[AbArm], revisions: Sequence[Revision]) -> None:
    needed = sum(arm.replicas * each.config.gpus_per_replica for arm, each in zip(arms, revisions, strict=True))
    if needed > service.spec.gpus.count:
        raise InvalidInput(
            f"the arms do not fit {service.name}",
            why=f"{needed} GPUs are needed",
            allowed=f"{service.spec.gpus.count} GPUs: fewer replicas of an arm, or of stable",
        )
