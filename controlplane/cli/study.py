"""`fleetune study ...`: searches over engine configurations."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from controlplane.cli.asking import Ask, Noun, add_actions, add_list, add_show, asks
from controlplane.cli.tables.show import Column, field
from controlplane.domain.studies.calibration import Calibration


def _outcomes(study: Any) -> str:
    """What the rollouts of its recommendation came to."""
    ends = (("promoted" if o["promoted"] else "taken back", o["rollout_id"], o["reason"]) for o in study["outcomes"])
    return "; ".join(f"{end} by {rollout}: {reason}" for end, rollout, reason in ends)


def _twin(study: Any) -> str | None:
    """What the baseline made of the twin, where no profile fitted."""
    known = study.get("calibration")
    return None if known is None else Calibration.model_validate(known).summary


STUDY = Noun(
    "/studies",
    columns=[
        Column("study", field("study_id")),
        Column("service", field("service")),
        Column("state", field("state")),
        Column("starts", field("engine_starts")),
        Column("created", field("created_at")),
        Column("finished", field("finished_at"), wide=True),
        Column("result", field("recommendation.summary"), text=True),
    ],
    details=[
        Column("study", field("study_id")),
        Column("service", field("service")),
        Column("state", field("state")),
        Column("reason", field("reason")),
        Column("created", field("created_at")),
        Column("finished", field("finished_at")),
        Column("engine starts", field("engine_starts")),
        Column("GPU seconds", field("gpu_seconds")),
        Column("baseline", field("baseline.flags")),
        Column("result", field("recommendation.summary")),
        Column("recommended", field("recommendation.config.flags")),
        Column("twin", _twin),
        Column("began with", field("warm_start.study_id")),
        Column("live traffic", _outcomes),
    ],
    empty="no study yet; start one with `fleetune study start SERVICE` or `fleetune tune -f service.yaml`",
)

app = typer.Typer(help="Searches over engine configurations.", no_args_is_help=True)
add_list(app, STUDY)
add_show(app, STUDY)


@app.command("start")
@asks
def start(
    ask: Ask,
    service: Annotated[str, typer.Argument(help="The service to tune.")],
    apply: Annotated[bool, typer.Option(help="Start the canary when it recommends something.")] = False,
) -> None:
    """Create a study; a tuner worker takes it."""
    ask.show_one(STUDY, ask.client.post("/studies", {"service": service, "apply_when_done": apply}))


add_actions(app, STUDY, {"pause": "Start no new trial.", "resume": "Go on.", "abort": "Give it up."})
