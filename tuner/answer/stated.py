"""The intervals that an answer states of a configuration's capacity and of its gain. Pure.

What is decided is of whole fleets: a check's level counts with what each of its replicas carried. What is stated is of
one replica, and under a trace's own arrivals that is less: a burst that one replica has to take alone is spread over
several, and the trace, stretched to the rate of one, makes it as many times longer. So levels of several replicas count
once more with what one alone may sustain less, and the interval holds both.
"""

from __future__ import annotations

from collections.abc import Sequence

from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.study import Trial, TrialKind
from controlplane.domain.workload import has_own_arrivals
from tuner.answer.evidence import Measured, is_of_several, measured
from tuner.answer.fleets import Interval

TOGETHER = 0.1
"""By how much one of several replicas sustains more than one alone, under a trace's own arrivals (logarithm)."""


def capacity(spec: ServiceSpec, trials: Sequence[Trial], found: Measured) -> Interval:
    """Return what one replica of a configuration sustains, requests/s: the value that decides, and a 95 % interval."""
    told = [_of(found), *(_of(alone) for alone in _alone(spec, trials, found))]
    return Interval(told[0].value, min(each.low for each in told), max(each.high for each in told))


def _of(found: Measured) -> Interval:
    belief = found.belief
    return Interval(belief.median_rps, belief.quantile(0.025), belief.quantile(0.975))


def _alone(spec: ServiceSpec, trials: Sequence[Trial], found: Measured) -> Sequence[Measured]:
    """Return what is believed of one replica alone, where that is another thing than what decided."""
    checks = found.of(TrialKind.CONFIRM_FLEET)
    several = any(is_of_several(check, level) for check in checks for level in check.levels)
    if not several or not has_own_arrivals(spec.workload):
        return ()
    return (measured(trials, together=TOGETHER)[found.config.content_hash()],)
