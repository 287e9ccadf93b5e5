"""Which candidate to start next, or why no more: expected improvement in cost per expected second of trial. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from tuner.search.alone import unseen_value
from tuner.search.candidates import MEASUREMENT_SD, Advice, Candidates, Mask, Tried, point_key
from tuner.search.kernels import disappointing_precision, is_copy_of_tried, last_look, unseen_kind, unseen_step
from tuner.search.surrogate import Array, Belief, Measured, believe, column_groups, relevances
from tuner.search.trial_time import Start
from tuner.space.space import Point

COST_EXPONENT = 0.5
"""Power of a trial's expected GPU-seconds that its expected improvement is divided by (decision 10)."""
COMPILE_SHARE = 1 / 3
"""Of what compiling a class takes, the part its first trial is charged: later starts of the class profit, too, a
neighbour's and the confirmations'. Charged in full, a search without a twin stays in classes it began with."""
BEYOND_BOUND = 0.1
"""Log cost by which a dropped candidate counts as dearer than the rate it missed, for samplers that need a number."""
_BOUND_SD = 0.06
_BROKEN_MARGIN = 0.7  # without a twin: what could not run counts as this much worse than the worst that could
_BROKEN_SD = 0.2
_EARLIER_SD = 0.25  # log cost: how far an earlier study's capacity may be off under this one's traffic and version


def advise(
    among: Candidates,
    tried: Sequence[Tried],
    *,
    pending: Sequence[Point] = (),
    worthwhile: float,
    host: str | None = None,
    only: Mask | None = None,
) -> Advice:
    """Return the next candidate.

    `pending` runs elsewhere and is not started twice. `worthwhile` is the expected improvement (share of the cost)
    below which another start is not worth it, `host` where it would run: what was compiled there starts sooner. `only`
    restricts what improvement is looked for in.
    """
    index = among.row_of
    allowed = open_rows(among, tried, pending)
    chosen_from = allowed if only is None else allowed & only
    if not allowed.any():
        return Advice(None, "every feasible candidate was tried")
    measured = measurements(tried, index)
    if among.forecast is None:
        measured = _without_twin(measured, tried, index)
    here = measured.rows
    measured = _with_earlier(measured, among.earlier, index)
    belief = _belief(among, measured)
    if pending:
        belief = _belief(among, _lying(measured, belief, pending, index))
    among = among.led_by(belief.leader)
    best = min((t.log_cost for t in tried if t.log_cost is not None), default=None)
    if best is None:
        return _safest(among, belief, chosen_from)
    seen = [*(t.point for t in tried), *pending]
    unseen = unseen_kind(among, belief, allowed, best, seen)
    if unseen is not None:
        reason = "nothing like it was measured, and the twin is wrong there in a way of its own"
        return Advice(unseen, reason, expected_log_cost=float(belief.mean[unseen]), best_row=unseen)
    moved = disappointing_precision(among, belief, allowed, seen)
    if moved is not None:
        reason = "this precision disappointed where the twin thought it best; now at the best one's settings"
        return Advice(moved, reason, expected_log_cost=float(belief.mean[moved]), best_row=moved)
    gain = belief.expected_improvement(_believed_best(belief, here, best), MEASUREMENT_SD)
    trial_gpu_s = among.trial_time.expected_gpu_s(_starts(tried, index), host=host, compile_share=COMPILE_SHARE)
    advice = _most_improving(belief, np.where(chosen_from, gain, -np.inf), trial_gpu_s, worthwhile)
    if advice.row is None or is_copy_of_tried(among, advice.row, seen):
        look = unseen_step(among, belief, allowed, best, seen) or last_look(among, belief, allowed, best, seen)
        advice = look or advice
    return advice if advice.row is not None else _before_the_end(among, allowed, tried) or advice


def trust(among: Candidates, tried: Sequence[Tried]) -> float:
    """Return how likely it is, by what was tried, that the forecast says anything; 0 without one."""
    return _belief(among, measurements(tried, among.row_of)).trust


def _before_the_end(among: Candidates, open_rows: Mask, tried: Sequence[Tried]) -> Advice | None:
    """Return one more start of a search without a twin where nothing is expected to improve, None when none is due."""
    if among.forecast is not None:
        return None
    measured = _without_twin(measurements(tried, among.row_of), tried, among.row_of)
    matters = relevances(among.features, column_groups(among.space), measured)
    return unseen_value(among, open_rows, tried, matters)


def _belief(among: Candidates, measured: Measured) -> Belief:
    groups = column_groups(among.space)
    relevance = relevances(among.features, groups, measured) if among.forecast is None else None
    rivals = among.forecasts[1:]
    return believe(
        among.features, groups, among.forecast, measured, rivals=rivals, bent=among.bent, relevance=relevance
    )


def measurements(tried: Sequence[Tried], index: Mapping[tuple[tuple[str, object], ...], int]) -> Measured:
    """Return the trials as the surrogate wants them; of a dropped candidate only a floor is known."""
    placed = [(trial, row) for trial in tried if (row := index.get(point_key(trial.point))) is not None]
    costs = [(row, trial.log_cost) for trial, row in placed if trial.log_cost is not None]
    floors = [(row, t.at_least) for t, row in placed if t.log_cost is None and t.at_least is not None]
    return Measured([row for row, _ in costs], [cost for _, cost in costs], [MEASUREMENT_SD] * len(costs), floors)


def _without_twin(
    measured: Measured, tried: Sequence[Tried], index: Mapping[tuple[tuple[str, object], ...], int]
) -> Measured:
    """Count what could not run, and what was dropped, as if it had been measured to be dear.

    Nothing else keeps a search without a twin from the neighbours of a start that ran out of memory; and it is so
    unsure of how bad a dropped candidate is that its neighbours would be dropped one after the other.
    """
    broken = [t for t in tried if not t.ran]
    rows = [row for t in broken if (row := index.get(point_key(t.point))) is not None]
    dropped = [floor + BEYOND_BOUND for _, floor in measured.floors]
    cost = max([*measured.log_costs, *dropped], default=0.0) + _BROKEN_MARGIN
    return Measured(
        [*measured.all_rows, *rows],
        [*measured.log_costs, *dropped, *[cost] * len(rows)],
        [*measured.noise_sds, *[_BOUND_SD] * len(dropped), *[_BROKEN_SD] * len(rows)],
    )


def _with_earlier(
    measured: Measured, earlier: Sequence[Tried], index: Mapping[tuple[tuple[str, object], ...], int]
) -> Measured:
    """Add what an earlier study measured, with wide noise, where nothing was measured here."""
    costs = {index.get(point_key(trial.point)): trial.log_cost for trial in earlier}
    known = {row: cost for row, cost in costs.items() if row is not None and cost is not None}
    new = [row for row in known if row not in measured.all_rows]
    return Measured(
        [*measured.rows, *new],
        [*measured.log_costs, *(known[row] for row in new)],
        [*measured.noise_sds, *([_EARLIER_SD] * len(new))],
        measured.floors,
    )


def open_rows(among: Candidates, tried: Sequence[Tried], pending: Sequence[Point]) -> Mask:
    """Return which rows may be started: not those that were or are, nor those with no more room than one that burst."""
    index = among.row_of
    allowed = np.ones(len(among.points), dtype=bool)
    taken = [index.get(point_key(point)) for point in (*(t.point for t in tried), *pending)]
    allowed[[row for row in taken if row is not None]] = False
    rooms = [(t, among.room_gib[row]) for t in tried if (row := index.get(point_key(t.point))) is not None]
    burst = [room for t, room in rooms if t.ran_out_of_memory and not math.isnan(room)]
    # What leaves as little room as a start that burst bursts too, unless something with no more room did start.
    started = min((r for t, r in rooms if t.ran), default=math.inf)
    return allowed & ~((among.room_gib <= max(burst, default=-math.inf)) & (among.room_gib < started))


def _lying(
    measured: Measured, belief: Belief, pending: Sequence[Point], index: Mapping[tuple[tuple[str, object], ...], int]
) -> Measured:
    """Take what runs elsewhere as measured at its expectation (constant liar), so that workers spread out."""
    rows = [row for point in pending if (row := index.get(point_key(point))) is not None]
    return Measured(
        [*measured.rows, *rows],
        [*measured.log_costs, *belief.mean[rows]],
        [*measured.noise_sds, *[MEASUREMENT_SD] * len(rows)],
        measured.floors,
    )


def _safest(among: Candidates, belief: Belief, open_rows: Mask) -> Advice:
    """Nothing has a capacity yet: try what is expected to be cheapest, without a twin what is least like the misses."""
    wish = belief.mean if among.forecast is not None else belief.mean - belief.sd
    row = int(np.argmin(np.where(open_rows, wish, np.inf)))
    reason = "nothing met the limits yet; this has the best chance"
    return Advice(row, reason, expected_log_cost=float(belief.mean[row]), best_row=row)


def _believed_best(belief: Belief, seen: Sequence[int], lowest: float) -> float:
    """Return what improvement counts from: what is believed of the best row tried. The lowest measured is luck too."""
    rows = list(seen)
    return float(belief.mean[rows][np.argmin((belief.mean + belief.sd)[rows])]) if rows else lowest


def _starts(tried: Sequence[Tried], index: Mapping[tuple[tuple[str, object], ...], int]) -> list[Start]:
    """Return the engine starts that got as far as serving; only those surely left a compiled model behind."""
    placed = [(trial, row) for trial in tried if (row := index.get(point_key(trial.point))) is not None]
    return [Start(row, t.start_s, t.levels_s, t.host) for t, row in placed if t.ran]


def _most_improving(belief: Belief, gain: Array, trial_gpu_s: Array, worthwhile: float) -> Advice:
    """Return what gains most for its trial's GPU-seconds, unless even the largest gain is not worthwhile."""
    largest = float(gain.max())
    if largest < worthwhile:
        reason = f"expected improvement {largest:.1%} is below the measurement noise ({worthwhile:.1%})"
        return Advice(None, reason, largest, best_row=int(np.argmax(gain)))
    row = int(np.argmax(gain / trial_gpu_s**COST_EXPONENT))
    reason = f"expected improvement {gain[row]:.1%}"
    return Advice(row, reason, float(gain[row]), float(belief.mean[row]), best_row=row)
