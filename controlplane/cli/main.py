"""`fleetune`: one command, a sub-command per task and per noun, each imported when it is called."""

from __future__ import annotations

import gc
from typing import Annotated

import typer

from controlplane.cli.lazy import Lazy, LazyGroup

_HERE = "controlplane.cli"
COMMANDS = (
    Lazy("init", f"{_HERE}.init:init", "Write a first service.yaml from four answers."),
    Lazy("up", f"{_HERE}.installation.up:up", "Run the control plane until Ctrl-C."),
    Lazy("down", f"{_HERE}.installation.down:down", "Stop the control plane and its engines."),
    Lazy("status", f"{_HERE}.status:status", "Say in one screen whether everything is all right."),
    Lazy("doctor", f"{_HERE}.doctor:doctor", "Look for what is wrong with this host, and say what to do."),
    Lazy("tune", f"{_HERE}.tune:tune", "Search the cheapest configuration that meets the SLOs, and prove it."),
    Lazy("demo", f"{_HERE}.demo:demo", "The whole loop on emulated GPUs. No GPU needed."),
    Lazy("report", f"{_HERE}.report:report", "Write a study as one self-contained HTML page."),
    Lazy("predict", f"{_HERE}.twin:predict", "Print what the twin expects: latencies, capacity, replicas and cost."),
    Lazy("calibrate", f"{_HERE}.twin:calibrate", "Probe a live engine for at most 90 s and fit a twin to it."),
    Lazy("render", f"{_HERE}.render:render", "Print a revision as Kubernetes manifests, for GitOps."),
    Lazy("schema", f"{_HERE}.schema:schema", "Print the JSON Schema of service.yaml."),
    Lazy("service", f"{_HERE}.service:app", "Served models."),
    Lazy("study", f"{_HERE}.study:app", "Searches over engine configurations."),
    Lazy("trial", f"{_HERE}.trial:app", "Configurations tried within a study."),
    Lazy("recommendation", f"{_HERE}.recommendation:app", "What finished studies recommend."),
    Lazy("rollout", f"{_HERE}.rollout:app", "Attempts to make a revision stable."),
    Lazy("fleet", f"{_HERE}.fleet:app", "Engines and GPUs."),
    Lazy("roll-back", f"{_HERE}.roll_back:roll_back", "Back to what served before, or to an earlier revision."),
    Lazy("model", f"{_HERE}.model:app", "Models, their versions and aliases."),
    Lazy("adapter", f"{_HERE}.adapter:app", "LoRA adapters on running replicas."),
    Lazy("ab", f"{_HERE}.ab:app", "A/B tests: which of several revisions is better."),
    Lazy("schedule", f"{_HERE}.schedule:app", "Jobs at times, e.g. 're-tune every Sunday 02:00'."),
    Lazy("replay", f"{_HERE}.replay:app", "Scheduled replays: one load test again and again."),
    Lazy("event", f"{_HERE}.event:app", "The audit: who did what, why and when."),
    Lazy("audit", f"{_HERE}.audit:app", "The audit log of requests: who, when, which model, what was decided."),
    Lazy("key", f"{_HERE}.key:app", "API keys."),
    Lazy("load", f"{_HERE}.load:app", "Load-test any OpenAI-compatible endpoint."),
    Lazy("twin", f"{_HERE}.twin:app", "The digital twin: fit it, and hold it against measurements."),
    Lazy("knobs", f"{_HERE}.knobs:app", "The flags an engine knows, per version."),
    Lazy("trace", f"{_HERE}.trace:app", "Traces: recorded arrivals and lengths, never text."),
    Lazy("bench", f"{_HERE}.bench:app", "Fleetune's own measurements, from a checkout."),
    Lazy("observability", f"{_HERE}.observability:app", "Prometheus rules and Grafana dashboards, as files."),
    Lazy("process", f"{_HERE}.installation.processes:app", "Entry points of the supervised processes.", hidden=True),
)


class _Fleetune(LazyGroup):
    lazy = COMMANDS


_COLLECT_AFTER = 50_000
"""Objects; Python's own 700 (2,000 from 3.14 on) cost a quarter of what a list without a server takes."""

app = typer.Typer(
    cls=_Fleetune,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Benchmark-driven autotuning control plane for vLLM fleets.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"fleetune {version('fleetune')}")
        raise typer.Exit


@app.callback()
def _fleetune(
    version: Annotated[  # read by its callback, before a sub-command is looked for
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Benchmark-driven autotuning control plane for vLLM fleets."""


def main() -> None:
    """Run the command line. Garbage is looked for rarely while modules are loaded: none of that is thrown away."""
    usual = gc.get_threshold()
    gc.set_threshold(_COLLECT_AFTER)
    try:
        app()
    finally:
        gc.set_threshold(*usual)


if __name__ == "__main__":
    main()
