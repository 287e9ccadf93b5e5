"""`fleetune load plan`: a load test as a file that Locust runs by itself, with its web UI or your own locustfile."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from controlplane.cli.errors import plain_errors
from controlplane.cli.files import require_folder
from controlplane.cli.load_target import as_told
from controlplane.domain.errors import InvalidInput
from loadtests.loadtest import LoadTest, write_plan
from loadtests.send.profiles import Profile, load_profile
from loadtests.send.runner import LOCUSTFILE
from loadtests.send.tokenized import words_for


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
    require_folder(out)
    chosen = load_profile(profile)
    chosen, test = as_told(chosen, _test(chosen, target, model, tokenizer, api_key_env, time_lapse))
    written = write_plan(test, chosen.schedule(), out)
    typer.echo(f"wrote {written}; run it once, watched at http://127.0.0.1:8089:", err=True)
    typer.echo(f"locust -f {LOCUSTFILE} --fleetune-plan {written} --users 1 --autostart")


def _test(
    profile: Profile, target: str, model: str, tokenizer: str | None, key_variable: str | None, time_lapse: float
) -> LoadTest:
    if key_variable is not None and key_variable not in os.environ:
        raise InvalidInput(f"environment variable {key_variable} is not set")
    return LoadTest(
        workload=profile.workload,
        rate_rps=profile.rate_rps,
        url=target,
        model=model,
        duration_s=profile.duration_s,
        warmup_s=profile.warmup_s,
        time_lapse=time_lapse,
        seed=profile.seed,
        slos=profile.slos,
        api_key=os.environ[key_variable] if key_variable else None,
        api=profile.api,
        timeouts=profile.timeouts,
        words=words_for(tokenizer, profile.api).words,
        force_length=profile.force_length,
        extra_body=dict(profile.extra_body),
        concurrency=profile.concurrency,
    )
