"""`fleetune roll-back SERVICE`: back to what served before, in one command."""

from __future__ import annotations

from typing import Annotated

import typer

from controlplane.cli.asking import Ask, asks
from controlplane.cli.rollout import ROLLOUT


@asks
def roll_back(
    ask: Ask,
    service: Annotated[str, typer.Argument(help="The service.")],
    to: Annotated[str | None, typer.Option(help="An earlier revision; default: the one that served before.")] = None,
    at_once: Annotated[
        bool, typer.Option("--at-once", help="All traffic as soon as its replicas are ready; nothing is judged.")
    ] = False,
) -> None:
    """Start a rollout to the last good revision, or to any earlier one."""
    ask.show_one(ROLLOUT, ask.client.post(f"/services/{service}/roll-back", {"revision": to, "at_once": at_once}))
