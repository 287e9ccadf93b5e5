"""`fleetune load plan`: a load test as a file that Locust runs by itself, with its web UI or your own locustfile."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from controlplane.cli.errors import plain_errors
from controlplane.cli.files import require_folder, require_readable
from controlplane.cli.load_options import load_test_of
from controlplane.cli.load_target import as_told
from loadtests.loadtest import write_plan
from loadtests.send.profiles import load_profile
from loadtests.send.runner import LOCUSTFILE


@plain_errors
def plan(
    profile: Annotated[str, typer.Option("--file", "-f", help="Profile: a file, or a shipped one's name.")],
    target: Annotated[str, typer.Option(help="Base URL, with or without /v1.")],
    out: Annotated[Path, typer.Option(help="Folder for the plan, its schedule, and the records of its run.")],
    model: Annotated[str, typer.Option(help="Name to send as `model`; the target is asked.")] = "",
    tokenizer: Annotated[str | None, typer.Option(help="tokenizer.json: text prompts of exact length.")] = None,
    api_key_env: Annotated[str | None, typer.Option(help="Environment variable that holds the API key.")] = None,
    time_lapse: Annotated[float, typer.Option(help="Emulated seconds per second, if the target does not say.")] = 1.0,
) -> None:
    """Write the plan of a load test, and print the command that runs it under Locust's web UI. Sends no load."""
    require_readable(tokenizer)
    require_folder(out)
    chosen = load_profile(profile)
    test = load_test_of(chosen, target, model, tokenizer=tokenizer, key_variable=api_key_env, time_lapse=time_lapse)
    chosen, test = as_told(chosen, test)
    written = write_plan(test, chosen.schedule(), out)
    typer.echo(f"wrote {written}; run it once, watched at http://127.0.0.1:8089:", err=True)
    typer.echo(locust_command(written))


def locust_command(plan: Path) -> str:
    """Return the words of a shell that run a plan under Locust's web UI, which only this machine reaches."""
    words = ["locust", "-f", LOCUSTFILE, "--fleetune-plan", plan, "--users", 1, "--autostart"]
    return shlex.join(map(str, [*words, "--web-host", "127.0.0.1"]))  # Locust's own default is every address
