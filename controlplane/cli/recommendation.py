"""`fleetune recommendation ...`: what finished studies recommend."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from controlplane.cli.asking import Ask, Noun, add_list, add_show, asks
from controlplane.cli.rollout import ROLLOUT
from controlplane.cli.tables.show import Column, field
from controlplane.domain.words import chance


def _chance(found: Any, name: str) -> str | None:
    """Return one of a recommendation's probabilities, nothing of one before they were kept."""
    return None if found["chances"] is None else chance(found["chances"][name])


def _could_have_missed(found: Any) -> str | None:
    """Return the saving that an answer without one may have overlooked; beside a saving it reads as a second."""
    if found["chances"] is None or found["improvement"]:
        return None
    chances = found["chances"]
    if not chances["missed_saving"]:
        return "nothing likelier than 5 %"
    odds = f"{chance(chances['missed_chance'])} likely, " if chances["missed_chance"] else ""
    return f"{odds}at most {chances['missed_saving']:.0%}"


def _ratios(found: Any, *names: str) -> Any:
    """Return fields of the cost over the baseline's; nothing of a baseline that took no load."""
    evidence = found["evidence"]
    baseline = evidence["baseline"]
    if baseline["state"] == "infeasible" and not baseline["levels"] and evidence["confirmed_baseline"] is None:
        return None
    shown = [evidence[name] for name in names]
    return shown[0] if len(shown) == 1 else shown


RECOMMENDATION = Noun(
    "/recommendations",
    columns=[
        Column("study", field("study_id")),
        Column("service", field("service")),
        Column("answer", field("answer")),
        Column("better", field("improvement")),
        Column("USD/h", field("fleet.usd_per_hour")),
        Column("cost ratio", lambda r: _ratios(r, "cost_ratio")),
        Column("applied as", field("applied_revision"), wide=True),
        Column("summary", field("summary"), text=True),
    ],
    details=[
        Column("study", field("study_id")),
        Column("service", field("service")),
        Column("summary", field("summary")),
        Column("answer", field("answer")),
        Column("better", field("improvement")),
        Column("holds the target with", lambda r: _chance(r, "holds")),
        Column("cheaper with", lambda r: _chance(r, "cheaper")),
        Column("could have missed", _could_have_missed),
        Column("to go on", field("next_step")),
        Column("flags", field("config.flags")),
        Column("replicas", field("fleet.replicas")),
        Column("GPUs", field("fleet.gpus")),
        Column("USD/h", field("fleet.usd_per_hour")),
        Column("cost ratio", lambda r: _ratios(r, "cost_ratio")),
        Column("95 % interval", lambda r: _ratios(r, "cost_ratio_low", "cost_ratio_high")),
        Column("engine", field("evidence.engine_version")),
        Column("GPU", field("evidence.gpu")),
        Column("time-lapse", field("evidence.time_lapse")),
        Column("trials", field("evidence.trial_ids")),
        Column("applied as", field("applied_revision")),
    ],
    empty="no recommendation yet; a finished study makes one",
)

app = typer.Typer(help="What finished studies recommend.", no_args_is_help=True)
add_list(app, RECOMMENDATION)
add_show(app, RECOMMENDATION)


@app.command("apply")
@asks
def apply(ask: Ask, study: Annotated[str, typer.Argument(help="The study.")]) -> None:
    """Start the canary of a recommendation."""
    ask.show_one(ROLLOUT, ask.client.post(f"/recommendations/{study}/apply"))


@app.command("commit")
@asks
def commit(ask: Ask, study: Annotated[str, typer.Argument(help="The study.")]) -> None:
    """Let a worker commit a recommendation to the service's repository (kubernetes.commit)."""
    ask.show_one(RECOMMENDATION, ask.client.post(f"/recommendations/{study}/commit"))
