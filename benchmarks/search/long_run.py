"""Whether a recommended load is kept: on half an hour of other arrivals, not on the minute that was tuned on."""

from __future__ import annotations

from benchmarks.search.truth import Truth, true_setup
from controlplane.services.studies.forecast import workload_at
from tuner.twin.predict import meets
from tuner.twin.simulate import simulate

LONG_S = 1800.0
_SEED = 15_485_863  # the searches' levels have seed 0


def keeps_slos(truth: Truth, row: int, rate_rps: float) -> bool:
    """Say whether the true engine of a row meets every limit for 30 minutes at a rate; nothing offered is kept."""
    if rate_rps <= 0:
        return True
    spec = truth.scenario.spec
    requests = workload_at(spec, seed=_SEED, duration_s=LONG_S)(rate_rps)
    return meets(spec.slos.latency, simulate(true_setup(truth)(truth.configs[row]), requests))
