"""Hold a canary's answers to the fixed prompts against stable's, before any user is sent to it.

Only where weights, quantization or the precision of the KV cache change, whoever started the rollout. It takes as long
as the engines take to answer, so it runs beside the controller's passes, which read what came of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from controlplane.domain.base import RevisionId, RolloutId
from controlplane.domain.engines.fleet import Engine
from controlplane.domain.errors import InvalidInput, Unavailable
from controlplane.domain.owner import ReplicaOwner
from controlplane.domain.quality import QualityCheck
from controlplane.domain.revision import Revision
from controlplane.domain.rollouts.answers import AnswerRisk
from controlplane.domain.rollouts.rollout import Rollout, RolloutState
from controlplane.domain.service import ServiceSpec
from controlplane.ports.fleet import FleetView
from controlplane.ports.load import QualityProbe
from controlplane.ports.store import Store
from controlplane.services.answers import answers_of, can_answer, score_of, without_asking
from controlplane.services.fleet.world import ready_engines
from controlplane.services.rollouts.manage import active_rollout
from tuner.answer.quality import compare, unchecked
from tuner.space.first_tier import is_lossy

GIVEN_UP_AFTER = 3  # attempts at which an engine did not answer
_OTHER_WEIGHTS = (
    *("revision", "code-revision", "tokenizer", "tokenizer-revision", "dtype"),
    *("load-format", "hf-config-path", "hf-overrides", "lora-modules"),
)


def risk_of(canary: Revision, stable: Revision) -> AnswerRisk | None:
    """Return why the canary may answer otherwise than stable; None when nothing that answers depend on changes."""
    mine, others = canary.config.flags, stable.config.flags
    moved = canary.model.path != stable.model.path or canary.engine.kind is not stable.engine.kind
    if moved or any(mine.get(flag) != others.get(flag) for flag in _OTHER_WEIGHTS):
        return AnswerRisk.WEIGHTS
    return AnswerRisk.PRECISION if is_lossy(canary.config, stable.config) else None


def read_answers(store: Store, rollout_id: RolloutId, spec: ServiceSpec) -> QualityCheck | None:
    """Return what came of the comparison; None while it is under way."""
    saved = store.read_setting(_setting(rollout_id))
    return without_asking(spec) if saved is None else QualityCheck.model_validate_json(saved.value)


def risk_before_users(store: Store, rollout: Rollout) -> AnswerRisk | None:
    """Return the risk of a rollout that no user has seen yet; None for any other and where there is no risk."""
    if rollout.state is not RolloutState.PENDING or rollout.steps or rollout.stable is None or rollout.at_once:
        return None
    return risk_of(store.get_revision(rollout.canary), store.get_revision(rollout.stable))


def _setting(rollout_id: RolloutId) -> str:
    return f"rollout-answers/{rollout_id}"


@dataclass
class AnswerComparer:
    """One for an installation; `run_next` blocks until two engines have answered the prompts one after the other."""

    store: Store
    fleet: FleetView
    probe: QualityProbe
    _attempts: dict[RolloutId, int] = field(default_factory=dict)

    def run_next(self) -> bool:
        """Compare for one rollout that waits for it; False when none does."""
        for service, _ in self.store.list_services():
            active = active_rollout(self.store, service.name)
            if active is not None and self._waits(active.value, service.spec):
                return self._compare(active.value, service.spec)
        return False

    def _waits(self, rollout: Rollout, spec: ServiceSpec) -> bool:
        risk = risk_before_users(self.store, rollout)
        return risk is not None and read_answers(self.store, rollout.rollout_id, spec) is None

    def _compare(self, rollout: Rollout, spec: ServiceSpec) -> bool:
        assert rollout.stable is not None, "without a stable revision nothing waits"
        canary, stable = (self._ready(rollout, each) for each in (rollout.canary, rollout.stable))
        if canary is None or stable is None:
            return False
        try:
            check = self._checked(rollout, spec, canary, stable)
        except InvalidInput as error:
            check = unchecked(str(error), passed=False)
        except Unavailable as error:
            tried = self._attempts[rollout.rollout_id] = self._attempts.get(rollout.rollout_id, 0) + 1
            if tried < GIVEN_UP_AFTER:
                return False
            check = unchecked(f"not compared, tried {tried} times: {error}", passed=False)
        self.store.write_setting(_setting(rollout.rollout_id), check.model_dump_json(), 0)
        return True

    def _checked(self, rollout: Rollout, spec: ServiceSpec, canary: Engine, stable: Engine) -> QualityCheck:
        score = score_of(self.probe, spec, str(canary.url))
        if score is not None:
            return score
        assert rollout.stable is not None, "without a stable revision nothing waits"
        arms = [spec.evolve(engine=self.store.get_revision(each).engine) for each in (rollout.canary, rollout.stable)]
        mute = next((arm.engine.kind.value for arm in arms if not can_answer(arm)), None)
        if mute is not None:
            return unchecked(f"not compared: {mute} gives no log probabilities", passed=False)
        asked = zip(arms, (canary, stable), strict=True)
        mine, others = (answers_of(self.probe, arm, str(engine.url)) for arm, engine in asked)
        return compare(others, mine, spec.tuning.quality)

    def _ready(self, rollout: Rollout, revision: RevisionId) -> Engine | None:
        return next(iter(ready_engines(self.fleet, ReplicaOwner(rollout.service, revision))), None)
