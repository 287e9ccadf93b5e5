"""`fleetune predict`, `fleetune calibrate` and `fleetune twin`: the digital twin from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from controlplane.cli.errors import plain_errors
from controlplane.cli.files import require_writable
from controlplane.cli.flags import parse_flags
from controlplane.cli.installation.compiling import COMPILING
from controlplane.cli.tables import twin as twin_tables
from controlplane.cli.tables.patience import working
from controlplane.cli.tables.show import Output, as_programs_read, console
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.errors import InvalidInput
from controlplane.domain.operations.what_if import WhatIf
from controlplane.reading.service_file import load_service
from controlplane.services.what_if import what_if
from tuner.twin.calibrate import Target, check_replaces, fit_measured, measure
from tuner.twin.measurements import MeasuredEngine, read_file, read_folder, write_file
from tuner.twin.precompile import is_compiled, precompile
from tuner.twin.profile import Profile, check_version, load_profile, save_profile
from tuner.twin.shapes import load_shape
from tuner.twin.shipped import fit_folder
from tuner.twin.validate import leave_one_out, validate

app = typer.Typer(no_args_is_help=True, help="The digital twin: fit it, and hold it against measurements.")

SHIPPED_PROFILES = Path(__file__).resolve().parents[2] / "tuner" / "twin" / "profiles"
OWN_PROFILES = Path(".fleetune/profiles")

Flags = Annotated[
    list[str] | None, typer.Option("--set", help="flag=value, laid over the service's flags; repeatable.")
]
ProfileName = Annotated[str | None, typer.Option(help="A profile by name; default: the nearest shipped one.")]
ProfileFolder = Annotated[Path, typer.Option(help="Where your own profiles are kept.")]
AsJson = Annotated[bool, typer.Option("--json", hidden=True, help="The same as -o json.")]
Out = Annotated[Output, typer.Option("--output", "-o", help="How to print the answer.")]


@plain_errors
def predict(
    file: Annotated[Path, typer.Option("-f", "--file", help="service.yaml")],
    rate: Annotated[
        float | None, typer.Option(help="Requests per second of one replica; default: at capacity.")
    ] = None,
    target_qps: Annotated[float | None, typer.Option(help="Of the whole fleet; default: the service's.")] = None,
    flags: Flags = None,
    shared_prefix: Annotated[
        float | None, typer.Option(help="Share of each prompt that all begin with, 0 to 1; default: the workload's.")
    ] = None,
    curve: Annotated[bool, typer.Option(help="Draw latency against rate.")] = False,
    profile: ProfileName = None,
    profiles: ProfileFolder = OWN_PROFILES,
    output: Out = Output.TABLE,
    json_out: AsJson = False,
) -> None:
    """Print what the twin expects: latencies, KV use, capacity, replicas and cost, with 90 % intervals."""
    spec = load_service(file)
    chosen = None if profile is None else load_profile(profile, folder=profiles)
    if chosen is not None and spec.engine.version is not None:
        check_version(chosen, spec.engine.version)
    if shared_prefix is not None and not 0 <= shared_prefix < 1:
        raise InvalidInput(
            f"--shared-prefix is {shared_prefix:g}", allowed="a share of each prompt: 0 or more, below 1"
        )
    question = WhatIf(
        rate_rps=rate,
        target_qps=target_qps,
        flags=parse_flags(flags or []),
        shared_prefix=shared_prefix,
        curve=curve,
    )
    with working("asking the twin" if is_compiled() else COMPILING):
        answer = what_if(spec, question, chosen)
        if answer.capacity is not None and answer.point is None and answer.capacity.rps > 0:
            answer = what_if(spec, question.evolve(rate_rps=answer.capacity.rps), chosen)
    told = Output.JSON if json_out else output
    if not as_programs_read(told, answer.model_dump(mode="json"), names=[spec.name]):
        twin_tables.print_answer(answer)


@plain_errors
def calibrate(
    name: Annotated[str, typer.Option(help="Name of the profile.")],
    target: Annotated[str | None, typer.Option(help="URL of the engine; it must be idle and yours alone.")] = None,
    gpu: Annotated[str | None, typer.Option(help="What it runs on, e.g. H200.")] = None,
    model: Annotated[str | None, typer.Option(help="Model folder, or the name of a shipped shape.")] = None,
    flags: Flags = None,
    keep: Annotated[Path | None, typer.Option(help="Write what the probes measured to this file.")] = None,
    measured: Annotated[
        Path | None, typer.Option("--from", help="Fit to what an earlier calibration kept, instead of an engine.")
    ] = None,
    profiles: ProfileFolder = OWN_PROFILES,
    replace: Annotated[bool, typer.Option(help="Replace a profile of another engine version.")] = False,
) -> None:
    """Probe a live engine for at most 90 s, fit a profile, say how well it fits, and store it."""
    require_writable(keep)
    engine = _probed(name, target, gpu, model, flags) if measured is None else read_file(measured)
    if keep is not None:
        write_file(engine, keep)
    found = fit_measured(engine._replace(engine_id=name))
    if not replace:
        check_replaces(_existing(name, profiles), found)
    twin_tables.print_profile(found)
    console.print(f"stored in {save_profile(found, profiles)}")


def _probed(
    name: str, target: str | None, gpu: str | None, model: str | None, flags: list[str] | None
) -> MeasuredEngine:
    if target is None or gpu is None or model is None:
        raise InvalidInput("nothing to calibrate on", allowed="--target, --gpu and --model, or --from FILE")
    asked = Target(target, gpu, load_shape(model), EngineConfig(flags=parse_flags(flags or [])))
    return measure(asked, name, progress=lambda text: console.print(f"  {text}", style="dim"))


@app.command("validate")
@plain_errors
def validate_folder(
    folder: Annotated[Path, typer.Argument(help="Measurements: one JSON file per engine configuration.")],
    json_to: Annotated[Path | None, typer.Option("--json", help="Write the report here.")] = None,
    transfer: Annotated[
        bool, typer.Option(help="Leave each engine's own profile out: predict from the others.")
    ] = False,
) -> None:
    """Replay every measured trace cell and print measured against predicted."""
    require_writable(json_to)
    engines = read_folder(folder)
    with working("replaying what was measured" if is_compiled() else COMPILING):
        report = validate(engines, leave_one_out) if transfer else validate(engines)
    twin_tables.print_report(report)
    if json_to is not None:
        json_to.write_text(json.dumps(report.model_dump(mode="json"), indent=1) + "\n")


@app.command("fit")
@plain_errors
def fit(
    folder: Annotated[Path, typer.Argument(help="Measurements: one JSON file per engine configuration.")],
    out: Annotated[Path, typer.Option(help="Where the profiles go; default: the shipped ones.")] = SHIPPED_PROFILES,
) -> None:
    """Fit a profile per kind of engine to its probes and at most one named trace cell."""
    with working("fitting profiles to what was measured" if is_compiled() else COMPILING):
        profiles = list(fit_folder(read_folder(folder)))
    for profile in profiles:
        twin_tables.print_profile(profile)
        console.print(f"stored in {save_profile(profile, out)}")


@app.command("compile")
@plain_errors
def compile_() -> None:
    """Compile the twin for this processor ahead of its first use."""
    with working("checking the compiled twin" if is_compiled() else COMPILING):
        precompile()


def _existing(name: str, folder: Path) -> Profile | None:
    return load_profile(name, folder=folder) if (folder / f"{name}.json").is_file() else None
