"""`fleetune ab ...`: several revisions at fixed shares for a fixed question."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from controlplane.cli.asking import Ask, Id, Noun, add_actions, add_list, asks
from controlplane.cli.tables.ab_test import arms_of, compared, plan_of
from controlplane.cli.tables.show import Column, field
from controlplane.domain.errors import InvalidInput

AB_TEST = Noun(
    "/ab-tests",
    columns=[
        Column("test", field("test_id")),
        Column("service", field("service")),
        Column("state", field("state")),
        Column("decides", field("options.metric")),
        Column("arms", arms_of, text=True),
        Column("reason", field("reason"), text=True),
    ],
    details=[
        Column("test", field("test_id")),
        Column("service", field("service")),
        Column("question", lambda t: t["question"] or None),
        Column("state", field("state")),
        Column("reason", field("reason")),
        Column("arms", arms_of),
        Column("plan", plan_of),
        Column("split since", field("started_at")),
        Column("finished", field("finished_at")),
        Column("problem", field("analysis.problem")),
        Column("judge", field("analysis.judge_problem")),
        Column("decides", lambda t: compared(t, "deciding")),
        Column("beside", lambda t: compared(t, "others")),
    ],
    empty="no A/B test yet; `fleetune ab start SERVICE --arm stable=50 --arm REVISION=50 --metric ttft --effect 5`",
)

app = typer.Typer(help="A/B tests: which of several revisions is better.", no_args_is_help=True)
add_list(app, AB_TEST)


@app.command("show")
@asks
def show(ask: Ask, id: Id) -> None:
    """Show one: who is better, by how much, and what is undecided."""
    ask.show_one(AB_TEST, ask.client.get(f"/ab-tests/{id}"))


@app.command("start")
@asks
def start(
    ask: Ask,
    service: Annotated[str, typer.Argument(help="The service to test in.")],
    arm: Annotated[
        list[str],
        typer.Option(
            help="stable=SHARE first, then REVISION=SHARE or MODEL@VERSION=SHARE, percent; :N for N replicas."
        ),
    ],
    metric: Annotated[str, typer.Option(help="What decides: ttft, slo_misses, feedback, judge, ... (docs/models.md).")],
    effect: Annotated[float, typer.Option(help="The smallest difference that matters: percent, or points of shares.")],
    question: Annotated[str, typer.Option(help="What is to be found out, for those who read it later.")] = "",
    confidence: Annotated[float, typer.Option(help="How sure the answer is to be.")] = 0.95,
    power: Annotated[float, typer.Option(help="Chance to find the effect where it is.")] = 0.8,
    min_hours: Annotated[float, typer.Option(help="Not decided sooner.")] = 1,
    max_hours: Annotated[float, typer.Option(help="Over then, decided or not.")] = 48,
    baseline: Annotated[
        float | None, typer.Option(help="What stable does, where its last day says too little.")
    ] = None,
    spread: Annotated[float | None, typer.Option(help="Of users around it: standard deviation.")] = None,
) -> None:
    """Split the traffic between revisions and find out which is better. Changes nothing by itself."""
    if (baseline is None) != (spread is None):
        raise InvalidInput("a baseline without its spread plans nothing", allowed="both --baseline and --spread")
    options = {
        "metric": metric,
        "minimum_effect_percent": effect,
        "confidence": confidence,
        "power": power,
        "min_hours": min_hours,
        "max_hours": max_hours,
    }
    expected = None if baseline is None else {"baseline": baseline, "spread": spread}
    body = {"service": service, "arms": [_arm(each) for each in arm], "options": options, "question": question}
    ask.show_one(AB_TEST, ask.client.post("/ab-tests", {**body, "expected": expected}))


def _arm(text: str) -> dict[str, Any]:
    """Read `stable=50` or `llama@candidate=50:2`. Raises InvalidInput."""
    what, equals, rest = text.rpartition("=")
    share, colon, replicas = rest.partition(":")
    if not (what and equals and share.isdecimal() and (replicas.isdecimal() or not colon)):
        raise InvalidInput(f"'{text}' is no arm", allowed="WHAT=SHARE or WHAT=SHARE:REPLICAS, e.g. stable=50")
    return {"what": what, "share_percent": int(share), "replicas": int(replicas) if replicas else None}


add_actions(app, AB_TEST, {"stop": "Give all traffic back to stable."})
