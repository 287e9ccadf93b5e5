"""What a study promised of one replica beside what live traffic shows of it, and when both cannot be true. Pure.

A canary that is no worse than stable may still not be what was recommended: where stable misses its limits too, a
comparison finds nothing. The promise is absolute: up to its confirmed capacity a replica stays within the limits.
"""

from __future__ import annotations

from controlplane.domain.rollouts.analysis import Promise, Shown
from controlplane.domain.rollouts.comparing import Evidence, missed_at_least
from controlplane.domain.rollouts.rollout_options import RolloutOptions
from controlplane.domain.slo import SloSet


def shown(promise: Promise, evidence: Evidence, slos: SloSet, options: RolloutOptions) -> Shown:
    """Return the promise beside what was seen so far."""
    arms = [evidence.canary, *([evidence.replayed] if evidence.replayed else [])]
    told, missed = (sum(part) for part in zip(*((a.told, a.slo_misses) for a in arms), strict=True))
    allowed = min(1.0, sum(slo.allowed_miss_ratio for slo in slos.latency))
    return Shown(
        promise=promise,
        carried_rps=evidence.carried_rps,
        miss_ratio=missed / told if told else 0.0,
        allowed_ratio=allowed,
        contradiction=_contradiction(promise, evidence, allowed, options),
    )


def describe_shown(seen: Shown) -> str:
    """Return both in a sentence."""
    said = f"{seen.carried_rps:.2f} requests/s a replica with {100 * seen.miss_ratio:.1f} % missed"
    return f"{said}, {describe_promise(seen.promise)}"


def describe_promise(promise: Promise) -> str:
    """Return what was promised in a few words."""
    if promise.confirmed_rps is None:
        measured = "nothing measured again"
    else:
        low, high = promise.confirmed_low_rps or 0.0, promise.confirmed_high_rps or promise.confirmed_rps
        measured = f"{promise.confirmed_rps:.2f} ({low:.2f} to {high:.2f}) confirmed"
    guess = "" if promise.predicted_rps is None else f", {promise.predicted_rps:.2f} predicted"
    return f"promised by {promise.study_id}: {measured}{guess}"


def _contradiction(promise: Promise, evidence: Evidence, allowed: float, options: RolloutOptions) -> str | None:
    """Only below what was promised at the least, and only where the excess is certain and beyond the margin."""
    most_rps = max(evidence.carried_rps, evidence.load.wanted_rps if evidence.load else 0.0)
    if promise.confirmed_low_rps is None or most_rps > promise.confirmed_low_rps:
        return None
    if evidence.load is not None and evidence.load.collapses:
        return f"a replica does not keep up with {most_rps:.2f} requests/s, {describe_promise(promise)}"
    least = missed_at_least(evidence, options)
    if least <= allowed + options.miss_ratio_margin:
        return None
    return (
        f"at least {100 * least:.1f} % of the canary's requests miss a limit, {100 * allowed:.1f} % are allowed, "
        f"at no more than {most_rps:.2f} requests/s a replica, {describe_promise(promise)}"
    )
