"""What no comparison of a step sees, and yet nobody may promote: users who leave, and requests late in a session. Pure.

Neither fails a step. A client that hung up while every limit could still be met may have had its own reasons, and of a
session's later requests only some are known. But a canary whose users leave certainly more often than stable's, or miss
more from the eleventh request of their sessions on, waits for a person: nothing passes, and `proceed` does not.
"""

from __future__ import annotations

from controlplane.domain.rollouts.analysis import Clustered
from controlplane.domain.rollouts.bursts import expected_end
from controlplane.domain.rollouts.comparing import Evidence
from controlplane.domain.rollouts.counting import told_of
from controlplane.domain.rollouts.pairs import Difference, Side
from controlplane.domain.rollouts.rollout_options import RolloutOptions

_SAID = {
    "left_clustered": "users leave the canary before any limit has passed",
    "later_clustered": "users miss more behind the tenth request of their sessions",
}


def doubt(evidence: Evidence, options: RolloutOptions) -> str | None:
    """Say what speaks against the canary although no comparison does; None where nothing does.

    Held is what is certainly more than stable's (at what a step may spend on aborting an equal one) and estimated
    beyond its margin: that on errors for users who leave, for nobody answered them; that on misses for later requests.
    """
    margins = {"left_clustered": options.error_ratio_margin, "later_clustered": options.miss_ratio_margin}
    alpha = options.false_abort_per_step / len(margins)
    said = (_more(evidence, name, margin, alpha, options) for name, margin in margins.items())
    return next((each for each in said if each is not None), None)


def _more(evidence: Evidence, name: str, margin: float, alpha: float, options: RolloutOptions) -> str | None:
    mine, theirs = (None if each is None else getattr(each, name) for each in (evidence.canary, evidence.stable))
    if not evidence.users or mine is None or theirs is None:
        return None
    before = None if evidence.before is None else getattr(evidence.before, name)
    found = _difference(mine, theirs, before, options)
    if found.estimate <= margin or not found.above(0.0, alpha):
        return None
    return f"{_SAID[name]}: {_share(mine)}, {_share(theirs)} of stable's"


def _difference(mine: Clustered, theirs: Clustered, before: Clustered | None, options: RolloutOptions) -> Difference:
    others, earlier = told_of(theirs), None if before is None else told_of(before)
    known = [each for each in (others, earlier) if each is not None]
    end = expected_end(known, options.longest_run)
    return Difference(Side(told_of(mine), end, earlier), Side(others, end, earlier))


def _share(told: Clustered) -> str:
    return f"{told.misses} of {told.n}"
