"""How long a step lasts at least: until a request that hangs must have shown, in wall-clock seconds. Pure.

A request without a first token shows as soon as a limit on it has passed: gateways tell how long requests in flight
have waited. One that stalls behind its first token, or hangs where no such limit is promised, shows when the gateway
gives it up. A step that ends before has seen none of its own hangs.
"""

from __future__ import annotations

from typing import NamedTuple

from controlplane.domain.engines.driver import Api
from controlplane.domain.errors import InvalidInput
from controlplane.domain.rollouts.rollout_options import SHORTEST_STEP_S, RolloutOptions, StepSpec
from controlplane.domain.service import ServiceSpec
from controlplane.domain.slo import LatencyMetric, SloSet

_FIRST_TOKEN = (LatencyMetric.TTFT, LatencyMetric.E2E)


class Shows(NamedTuple):
    """When a hang shows at the latest, and by what."""

    after_s: float
    by: str


def hangs_show(spec: ServiceSpec) -> Shows:
    """Return after how long every request that hangs has shown: of streams, unless the engine has none."""
    gateway, first = spec.gateway, _limit_shows(spec.slos, spec.engine.time_lapse)
    if set(spec.engine.driver.dialect.apis) == {Api.EMBEDDINGS}:
        patience_s = gateway.response_timeout_s
        by = f"gateway.response_timeout_s is {patience_s:g}, and no limit on the whole shows it"
        return first or Shows(patience_s, by)
    stall = Shows(gateway.stall_timeout_s, f"gateway.stall_timeout_s is {gateway.stall_timeout_s:g}")
    patience_s = gateway.first_token_timeout_s
    by = f"gateway.first_token_timeout_s is {patience_s:g}, and no limit on a first token shows it"
    return max(stall, first or Shows(patience_s, by))


def _limit_shows(slos: SloSet, time_lapse: float) -> Shows | None:
    """Return when a request in flight is beyond a limit, by the wall clock; None: no limit on it."""
    limits = [slo for slo in slos.latency if slo.metric in _FIRST_TOKEN]
    soonest = min(limits, key=lambda slo: slo.limit_ms, default=None)
    if soonest is None:
        return None
    return Shows(soonest.limit_ms / 1e3 / time_lapse, f"the limit {soonest} is passed then")


def patient(options: RolloutOptions, spec: ServiceSpec) -> RolloutOptions:
    """Return the options with a `min_s` for each step that declares none: as long as hangs need, at most `max_s`."""
    needed = max(SHORTEST_STEP_S, hangs_show(spec).after_s)
    steps = tuple(s.evolve(min_s=min(needed, s.max_s)) if s.min_s is None else s for s in options.steps)
    return options.evolve(steps=steps)


def check_patience(options: RolloutOptions, spec: ServiceSpec) -> None:
    """Raise InvalidInput for a step that may be over before a hang shows, by its `min_s` or by so short a `max_s`."""
    shows = hangs_show(spec)
    for number, step in enumerate(options.steps, start=1):
        name, said = _shorter(step, shows)
        which = f"rollout.steps {number} ({step.weight_percent} %)"
        if name:
            raise InvalidInput(
                f"{which}: {name} {said:g} is shorter than {shows.after_s:g} s",
                why=f"a request that hangs shows only then: {shows.by}",
                allowed=f"{name} {shows.after_s:g} or more"
                + (", or leave it out, or 0 to wait for no hang" if name == "min_s" else "")
                + "; or shorter time-outs of the gateway",
            )


def _shorter(step: StepSpec, shows: Shows) -> tuple[str, float]:
    """Return what is too short, and how short; nothing where 0 s say that no hang is waited for."""
    if step.min_s == 0:
        return "", 0.0
    if step.min_s is not None and step.min_s < shows.after_s:
        return "min_s", step.min_s
    return ("max_s", step.max_s) if step.max_s < shows.after_s else ("", 0.0)
