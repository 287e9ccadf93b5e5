"""One line per cell and rule, what it says of the declared error rates, and the test of fixed size beside it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from scipy.stats import binom, norm

from benchmarks.canary_errors.rules import OPTIONS
from benchmarks.canary_errors.traffic import BASE, CANARIES, SHADOW, TWIN, Cell

DECIDED = 0.5  # share of the rollouts from which on a median says how many requests a decision takes
TWIN_RUN = 3.0  # mean run of misses in the twin's queue
DECLARED = 1 - OPTIONS.confidence


class Line(NamedTuple):
    canary: str
    rps: float
    burst: float | str
    replicas: int
    rule: str
    rollouts: int
    aborted: float
    promoted: float
    paused: float
    canary_requests: float  # median until the end of the rollout, replayed ones left out
    replayed_requests: float
    users_hurt: float  # mean, of misses because of the canary: what stable would have missed too is left out
    first_step_decided: float  # share of rollouts
    first_step_requests: float | None  # median of those decided, users' and replayed
    misses_decided: float  # share of rollouts whose first step had its misses decided, whatever it waited for else
    misses_requests: float | None  # median of those
    fixed_size: float  # canary requests that a test of misses of fixed size with the same error rates needs

    @property
    def wrong(self) -> float | None:
        """Share of rollouts that ended wrongly; None where neither end is wrong."""
        canary = next(each for each in CANARIES if each.name == self.canary)
        if canary.collapses:
            return self.promoted
        worse = canary.miss_ratio - BASE
        if worse <= 0:
            return self.aborted
        return self.promoted if worse >= OPTIONS.miss_ratio_margin - 1e-9 else None

    def rounded(self) -> dict[str, object]:
        """Return it by name, to four digits."""
        return {name: round(value, 4) if isinstance(value, float) else value for name, value in self._asdict().items()}

    def row(self) -> str:
        """Return it as a row of a table."""
        return "| " + " | ".join(_cell(value) for value in self) + " |"


def as_json(lines: Sequence[Line]) -> str:
    """Return a list with one line of text per cell and rule."""
    return "[\n" + ",\n".join(json.dumps(line.rounded()) for line in lines) + "\n]\n"


def fixed_size(cell: Cell) -> float:
    """Return the canary requests of a one-sided z-test of misses, before any user: of one margin more or less.

    An equal canary is told from one at the margin, and one of twice the margin from it too. Both errors as declared
    for this one look at this one ratio; misses in runs count as so many independent ones fewer, (2 run − 1) for a
    chain, and the test is told how long they are.
    """
    z = 2 * norm.ppf(1 - DECLARED)
    worse = max(BASE + OPTIONS.miss_ratio_margin, cell.canary.miss_ratio)
    run = TWIN_RUN if cell.burst == TWIN else max(1.0, cell.burst)
    stable_per_canary = cell.replicas / cell.canary_replicas(SHADOW)
    variance = worse * (1 - worse) + BASE * (1 - BASE) / stable_per_canary
    return math.ceil(z**2 * variance / OPTIONS.miss_ratio_margin**2 * (2 * run - 1))


def summary(lines: Sequence[Line]) -> str:
    """Say of each rule in how many cells the declared error rates were kept, and of ours what it costs."""
    rules = dict.fromkeys(line.rule for line in lines)
    return "\n".join([*(_kept(rule, [line for line in lines if line.rule == rule]) for rule in rules), *_costs(lines)])


def _kept(rule: str, lines: Sequence[Line]) -> str:
    """Beyond chance: so many wrong ones come with less than a thousandth where the declared rate is true."""
    judged = [(line, line.wrong) for line in lines if line.wrong is not None]
    kept = [line for line, wrong in judged if wrong <= DECLARED]
    beyond = [
        line for line, wrong in judged if binom.sf(round(wrong * line.rollouts) - 1, line.rollouts, DECLARED) < 1e-3
    ]
    worst = max((wrong for _, wrong in judged), default=0.0)
    return (
        f"{rule}: wrong in at most {100 * DECLARED:.0f} % of the rollouts in {len(kept)} of {len(judged)} cells, "
        f"beyond chance in {len(beyond)}; at most {100 * worst:.1f} % in one"
    )


def _costs(lines: Sequence[Line]) -> Iterator[str]:
    mine = {line[:4]: line for line in lines if line.rule == "ours"}
    told = [(m.misses_requests, m.fixed_size) for m in mine.values() if m.misses_decided >= DECIDED]
    fewer = sum(requests is not None and requests < fixed for requests, fixed in told)
    yield f"ours: fewer requests than a test of misses of fixed size in {fewer} of the {len(told)} cells mostly decided"
    pairs = [(mine[line[:4]], line) for line in lines if line.rule == "before" and line[:4] in mine]
    hurt = [(a.users_hurt, b.users_hurt) for a, b in pairs if b.users_hurt >= 1]
    tenth = sum(now <= then / 10 for now, then in hurt)
    now, then = (sum(part) for part in zip(*hurt, strict=True)) if hurt else (0.0, 0.0)
    yield f"ours: {now:.0f} users hurt, before: {then:.0f}; at most a tenth in {tenth} of {len(hurt)} cells"


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
