"""Hold the answers of an adapter's canary against stable's, before any user gets it; beside the controller.

Both versions are loaded in the same engine and asked by their own names. A new version is mostly meant to answer
otherwise: that is said, and only what is declared (`rollout.on_other_answers`), or a score of the user's own command
that is too low, keeps it from users.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from controlplane.domain.adapters import ServedAdapter
from controlplane.domain.engines.fleet import Engine
from controlplane.domain.errors import InvalidInput, StaleVersion, Unavailable
from controlplane.domain.quality import QualityCheck
from controlplane.domain.rollouts.answers import describe_answers
from controlplane.domain.rollouts.rollout_options import CeilingPolicy, RolloutOptions
from controlplane.domain.service import ServiceSpec
from controlplane.domain.serving import Service
from controlplane.ports import Clock
from controlplane.ports.fleet import FleetView
from controlplane.ports.load import QualityProbe
from controlplane.ports.store import Store
from controlplane.services.adapters.manage import save_adapter
from controlplane.services.answers import can_answer, prompts_of
from controlplane.services.fleet.loaded import read_loaded
from controlplane.services.fleet.world import service_of
from tuner.answer.quality import compare, scored, unchecked

GIVEN_UP_AFTER = 3  # attempts at which an engine did not answer


def follows(check: QualityCheck, options: RolloutOptions) -> CeilingPolicy:
    """Return what a comparison means for an adapter's canary."""
    if check.passed:
        return CeilingPolicy.PROCEED
    if options.on_other_answers is not None:
        return options.on_other_answers
    return CeilingPolicy.PROCEED if check.score is None else CeilingPolicy.ABORT


@dataclass
class AdapterAnswers:
    """One for an installation; `run_next` blocks until an engine has answered the prompts for both versions."""

    store: Store
    fleet: FleetView
    probe: QualityProbe
    clock: Clock
    _attempts: dict[str, int] = field(default_factory=dict)

    def run_next(self) -> bool:
        """Compare for one canary that waits for it; False when none does, or no engine has both versions yet."""
        for service, _ in self.store.list_services():
            for adapter in service.adapters:
                if adapter.waits_for_answers and adapter.answers is None and self._compare(service, adapter):
                    return True
        return False

    def _compare(self, service: Service, adapter: ServedAdapter) -> bool:
        assert adapter.canary is not None, "only a canary waits"
        assert adapter.stable is not None, "only what can be compared waits"
        names = adapter.loaded_as(adapter.canary), adapter.loaded_as(adapter.stable)
        engine = self._with(service, names)
        if engine is None:
            return False
        try:
            check = self._checked(service.spec, str(engine.url), *names)
        except InvalidInput as error:
            check = unchecked(str(error), passed=False)
        except Unavailable as error:
            tried = self._attempts[names[0]] = self._attempts.get(names[0], 0) + 1
            if tried < GIVEN_UP_AFTER:
                return False
            check = unchecked(f"not compared, tried {tried} times: {error}", passed=False)
        self._attempts.pop(names[0], None)
        self._decide(service, adapter, check)
        return True

    def _with(self, service: Service, names: Sequence[str]) -> Engine | None:
        loaded = read_loaded(self.store, service.name).engines
        mine = [each for each in self.fleet.list() if service_of(each) == service.name and each.takes_traffic]
        return next((each for each in mine if set(names) <= set(loaded.get(each.spec.engine_id, ()))), None)

    def _checked(self, spec: ServiceSpec, url: str, canary: str, stable: str) -> QualityCheck:
        """Raises InvalidInput, Unavailable."""
        options = spec.tuning.quality
        if options.command is not None:
            return scored(self.probe.score(options.command, url, canary), options)
        if not can_answer(spec):
            return unchecked(f"not compared: {spec.engine.kind.value} gives no log probabilities", passed=False)
        prompts, key = prompts_of(spec), spec.engine.api_key
        mine, others = (self.probe.answers(url, name, prompts, api_key=key) for name in (canary, stable))
        return compare(others, mine, options)

    def _decide(self, service: Service, adapter: ServedAdapter, check: QualityCheck) -> None:
        """Save it for the very canary that was compared."""
        saved, now = self.store.get_service(service.name), self.clock()
        present = saved.value.adapter(adapter.name)
        if present is None or not present.waits_for_answers or present.canary != adapter.canary:
            return
        told, actor = f"version {adapter.canary}: {describe_answers(check)}", "controller"
        try:
            match follows(check, saved.value.spec.rollout):
                case CeilingPolicy.PROCEED:
                    after = present.evolve(answers=check, waits_for_answers=False)
                    save_adapter(self.store, saved, after, "answers", told, actor=actor, now=now)
                case CeilingPolicy.ABORT:
                    save_adapter(self.store, saved, present.taken_back(), "rolled_back", told, actor=actor, now=now)
                case CeilingPolicy.PAUSE:  # nobody gets it until a person promotes it or takes it back
                    held = present.evolve(answers=check)
                    save_adapter(self.store, saved, held, "answers", f"{told}; held", actor=actor, now=now)
        except StaleVersion:  # somebody changed the service just now: the next look sees what
            return
