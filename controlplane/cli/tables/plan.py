"""A study's plan in a terminal: one line a stage, before the first engine starts."""

from __future__ import annotations

from collections.abc import Iterator

from controlplane.domain.studies.study_plan import StudyPlan


def plan_lines(plan: StudyPlan) -> Iterator[str]:
    """Yield what the study is going to start, and how long that may take with one worker."""
    yield f"plan: at most {plan.engine_starts} engine starts, about {_minutes(plan.expected_s)} with one worker"
    for stage in plan.stages:
        starts = "start, " if stage.engine_starts == 1 else "starts,"
        yield f"  {stage.name:13}{stage.engine_starts:3} {starts} about {_minutes(stage.expected_s)}"
    if plan.note is not None:
        yield f"  note: {plan.note}"


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
