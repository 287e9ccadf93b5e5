"""Values as a person reads them: numbers with sensible digits, flags, states and their colours, roles of revisions."""

from __future__ import annotations

from datetime import datetime, timedelta

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.engines.fleet import EngineState
from controlplane.domain.rollouts.analysis import Verdict
from controlplane.domain.rollouts.rollout import RolloutState
from controlplane.domain.service import ServiceSpec
from controlplane.domain.slo import LatencySlo
from controlplane.domain.studies.capacity import Capacity
from controlplane.domain.studies.study import LiveOutcome, StudyState, TrialKind, TrialState
from dashboards import theme

NONE = "–"


def number(value: float | None, digits: int = 3) -> str:
    """Return about `digits` significant digits, thousands set apart: 1 234, 56.7, 0.123."""
    if value is None:
        return NONE
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}".replace(",", "\u202f")
    return f"{value:.{digits}g}" if abs(value) < 1 else f"{value:.{max(0, digits - len(str(int(abs(value)))))}f}"


def count(value: int) -> str:
    """Return a whole number, thousands set apart."""
    return f"{value:,}".replace(",", "\u202f")


def latency(ms: float | None) -> tuple[str, str]:
    """Return a latency and its unit: milliseconds below ten seconds."""
    if ms is None:
        return NONE, ""
    return (number(ms), "ms") if ms < 10_000 else (number(ms / 1000), "s")


def percent(ratio: float | None, digits: int = 1) -> str:
    return NONE if ratio is None else f"{ratio * 100:.{digits}f}\u202f%"


def change(ratio: float) -> str:
    """Return a ratio as a change: −62 % for 0.38."""
    return f"{(ratio - 1) * 100:+.0f}\u202f%".replace("-", "−")


def usd(value: float | None, digits: int = 2) -> str:
    return NONE if value is None else f"${value:,.{digits}f}"


def capacity(value: Capacity | None) -> str:
    """Return a capacity with its interval; 'at least' when no rate was found that fails."""
    if value is None:
        return NONE
    if value.censored:
        return f"≥ {number(value.low_rps)}"
    return f"{number(value.rps)} ({number(value.low_rps)}–{number(value.high_rps)})"


def changes(config: EngineConfig, baseline: EngineConfig, *, same: str = NONE) -> str:
    """Return what a configuration sets otherwise than the baseline; flags it leaves out are marked with a minus."""
    other = [f"{name}={value}" for name, value in config.flags.items() if baseline.flags.get(name) != value]
    gone = [f"−{name}" for name in baseline.flags if name not in config.flags]
    return "  ".join([*other, *gone]) or same


def percentile(slo: LatencySlo) -> str:
    """Return what an SLO limits, e.g. P99 TTFT."""
    return f"P{slo.percentile:g} {slo.metric.value.removesuffix('_ms').upper()}"


def moment(at: datetime | None) -> str:
    return NONE if at is None else at.strftime("%Y-%m-%d %H:%M:%S")


def span(seconds: float | None) -> str:
    """Return a duration: 12 s, 3 min 20 s, 41 min, 2 h 05 min."""
    if seconds is None:
        return NONE
    whole = timedelta(seconds=round(seconds))
    minutes, rest = divmod(int(whole.total_seconds()), 60)
    if minutes < 1:
        return f"{rest} s"
    if minutes < 10:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def ending(outcome: LiveOutcome) -> tuple[str, str]:
    """Return how a rollout of a recommendation ended, and its colour."""
    if outcome.promoted:
        return "promoted", theme.GOOD
    return ("judged worse", theme.BAD) if outcome.is_refuted else ("taken back", theme.WARN)


STUDY_COLOUR = {
    StudyState.PENDING: theme.MUTED,
    StudyState.RUNNING: theme.STABLE,
    StudyState.PAUSED: theme.WARN,
    StudyState.DONE: theme.GOOD,
    StudyState.FAILED: theme.BAD,
    StudyState.ABORTED: theme.MUTED,
}

TRIAL_COLOUR = {
    TrialState.RUNNING: theme.STABLE,
    TrialState.FEASIBLE: theme.GOOD,
    TrialState.INFEASIBLE: theme.WARN,
    TrialState.FAILED: theme.BAD,
}

TRIAL_KIND = {
    TrialKind.BASELINE: "baseline",
    TrialKind.SEARCH: "search",
    TrialKind.CONFIRM_WINNER: "confirm winner",
    TrialKind.CONFIRM_BASELINE: "confirm baseline",
    TrialKind.CONFIRM_FLEET: "check fleet",
}

ROLLOUT_COLOUR = {
    RolloutState.PENDING: theme.MUTED,
    RolloutState.PROGRESSING: theme.CANARY,
    RolloutState.PAUSED: theme.WARN,
    RolloutState.PROMOTING: theme.STABLE,
    RolloutState.PROMOTED: theme.GOOD,
    RolloutState.ABORTING: theme.BAD,
    RolloutState.ABORTED: theme.BAD,
    RolloutState.HALTED: theme.BAD,
}

VERDICT_COLOUR = {
    Verdict.PASS: theme.GOOD,
    Verdict.FAIL: theme.BAD,
    Verdict.INCONCLUSIVE: theme.WARN,
    Verdict.ERROR: theme.MUTED,
}

ENGINE_COLOUR = {
    EngineState.STARTING: theme.CANARY,
    EngineState.READY: theme.GOOD,
    EngineState.DRAINING: theme.WARN,
    EngineState.FAILED: theme.BAD,
    EngineState.STOPPED: theme.MUTED,
}


def load_command(spec: ServiceSpec | None) -> str:
    """Return a load test of a shipped profile through the gateway at its usual address."""
    command = "fleetune load -f chat --target http://127.0.0.1:8000"
    if spec is None:
        return f"{command} --model MODEL"
    lapse = "" if spec.engine.time_lapse == 1 else f" --time-lapse {spec.engine.time_lapse:g}"
    return f"{command} --model {spec.model.name}{lapse}"
