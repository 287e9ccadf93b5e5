"""A study's progress in a terminal: one line that moves, and one line kept per finished trial or level."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from controlplane.domain.studies.study import Trial, TrialKind, TrialState
from controlplane.services.studies.run_study import StudyProgress
from tuner.answer.fewer import held_rate_rps


class StudyBar:
    """Shows StudyProgress. Use as a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[budget]}"),
            TimeElapsedColumn(),
        )
        self._bar = Progress(*columns, console=console, transient=True)
        self._task = self._bar.add_task("waiting for a worker", total=1.0, budget="")

    def __enter__(self) -> StudyBar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, progress: StudyProgress) -> None:
        """Move the line."""
        budget = progress.spec.tuning.budget
        done = progress.used.engine_starts / budget.engine_starts
        if budget.wall_clock_s:
            done = max(done, progress.used.wall_clock_s / budget.wall_clock_s)
        text = f"{progress.used.engine_starts} of {budget.engine_starts} engine starts"
        self._bar.update(self._task, description=_describe(progress), completed=min(done, 1.0), budget=text)

    def say(self, text: str) -> None:
        """Print a sentence above the moving line."""
        self._console.print(f"  {text}", highlight=False)

    def keep(self, trial: Trial) -> None:
        """Print a finished trial above the moving line."""
        self._console.print(describe_trial(trial), highlight=False)


def describe_trial(trial: Trial) -> str:
    """Return one line: what was tried and what came out."""
    flags = " ".join(f"{name}={value}" for name, value in trial.config.flags.items()) or "(defaults)"
    match trial.state:
        case TrialState.FEASIBLE if trial.capacity and trial.fleet:
            result = (
                f"[green]{trial.capacity.rps:.3g} rps[/] per replica, {trial.fleet.replicas} × "
                f"{trial.config.gpus_per_replica} GPU, {trial.fleet.usd_per_hour:.2f} USD/h"
            )
        case TrialState.FEASIBLE if trial.kind is TrialKind.CONFIRM_FLEET and trial.fleet:
            size = f"{trial.held_together} × {trial.config.gpus_per_replica} GPU, {trial.fleet.usd_per_hour:.2f} USD/h"
            fewer = f"; {trial.reason}" if trial.reason else ""
            result = f"[green]{held_rate_rps(trial) or 0:.3g} rps[/] held together by {size}{fewer}"
        case TrialState.RUNNING:
            result = "running"
        case TrialState.FEASIBLE | TrialState.INFEASIBLE | TrialState.FAILED:
            result = f"[yellow]{trial.state.value}[/]: {trial.reason or ''}"
    return f"  {trial.number:>2} {trial.kind.value:<16} {result}   [dim]{flags}[/]"


def _describe(progress: StudyProgress) -> str:
    if progress.trial is None:
        return progress.message
    rate = f" at {progress.rate_rps:.3g} rps" if progress.rate_rps else ""
    elapsed = f", {progress.level_elapsed_s:.0f} s" if progress.level_elapsed_s else ""
    return f"trial {progress.trial.number} ({progress.trial.kind.value}): {progress.message}{rate}{elapsed}"
