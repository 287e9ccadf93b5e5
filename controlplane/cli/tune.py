"""`fleetune tune`: one study in the foreground, from the baseline to the recommendation."""

from __future__ import annotations

import json
import time
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from controlplane import settings as installation
from controlplane.cli.errors import plain_errors
from controlplane.cli.files import require_folder_place, require_writable
from controlplane.cli.installation.compiling import compile_twin
from controlplane.cli.installation.helpers import helping_workers
from controlplane.cli.installation.hosts import gpus_of, needs_gpus, require_engines
from controlplane.cli.installation.stopping import stop_event
from controlplane.cli.recommendation import RECOMMENDATION
from controlplane.cli.tables.plan import plan_lines
from controlplane.cli.tables.progress import StudyBar
from controlplane.cli.tables.show import as_lines, console
from controlplane.domain.base import StudyId
from controlplane.domain.errors import ExperimentFailed, InvalidInput
from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.study import STUDY_FINAL, Study, StudyState, TrialState
from controlplane.domain.workload import TraceWorkload
from controlplane.ports.store import Store
from controlplane.reading.service_file import load_service
from controlplane.services.fleet.serving import register_service
from controlplane.services.rollouts.manage import active_rollout
from controlplane.services.studies.extend import extend_study, parse_budget, retry_study
from controlplane.services.studies.manage import check_resumable, create_study
from controlplane.services.studies.run_study import StudyProgress
from controlplane.settings import Settings
from controlplane.wiring import machine, work
from loadtests.send.cutting import cut_rows
from loadtests.send.traces import load_trace

_CALIBRATED = -1  # among the numbers of trials shown: what no trial is
FOLLOW_EVERY_S = 1.0


@plain_errors
def tune(
    file: Annotated[Path | None, typer.Option("-f", "--file", help="service.yaml; --resume needs none")] = None,
    apply: Annotated[bool, typer.Option(help="Start the canary when a better configuration is proved.")] = False,
    data_dir: Annotated[Path, typer.Option(help="Where the installation lives.")] = Path(".fleetune"),
    gpus: Annotated[
        int | None, typer.Option(min=1, help="GPUs of this host; default: nvidia-smi, or the spec.")
    ] = None,
    json_: Annotated[Path | None, typer.Option("--json", help="Write the whole study as JSON.")] = None,
    resume: Annotated[str | None, typer.Option(help="Go on with this study instead of a new one.")] = None,
    budget: Annotated[
        str | None, typer.Option(help="With --resume: what it may use in all, e.g. 20 or engine_starts=20.")
    ] = None,
    warm_start: Annotated[
        str | None, typer.Option(help="An earlier study of this service, as a prior: other traffic or vLLM version.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Trials run at once, as far as the GPUs suffice.")] = 1,
) -> None:
    """Search the configuration that meets the SLOs at the lowest cost, and prove it against the baseline."""
    if budget is not None and not resume:
        raise InvalidInput("--budget goes with --resume", allowed="a new study's budget stands in service.yaml")
    require_writable(json_)
    require_folder_place(data_dir)
    spec = _spec(file, resume, data_dir.resolve())
    settings = _settings(data_dir.resolve(), spec, gpus)
    compile_twin()
    store = machine.open_store(settings)
    began = machine.installation_clock(settings)()
    if resume:
        study_id = StudyId(resume)
        _resume(store, study_id, spec, budget, now=began)
    else:
        earlier = StudyId(warm_start) if warm_start else None
        study_id = _new_study(store, spec, now=began, apply=apply, warm_start=earlier)
    study = _run(settings, store, study_id, workers)
    if json_ is not None:
        trials = [trial.value.model_dump(mode="json") for trial in store.list_trials(study_id)]
        json_.write_text(json.dumps({"study": study.model_dump(mode="json"), "trials": trials}, indent=1))
    _conclude(study, data_dir)


def _spec(file: Path | None, resume: str | None, data_dir: Path) -> ServiceSpec:
    """Return what the file says; without one, what the study that is gone on with was begun with."""
    if file is not None:
        return load_service(file)
    if resume is None:
        raise InvalidInput("no service to tune", allowed="-f service.yaml, or --resume STUDY of this installation")
    return machine.open_store(installation.load(data_dir)).get_study(StudyId(resume)).value.spec


def _resume(store: Store, study_id: StudyId, spec: ServiceSpec, budget: str | None, *, now: datetime) -> None:
    study = store.get_study(study_id).value
    check_resumable(study, spec)
    if budget is None and study.state is StudyState.FAILED:
        retry_study(store, study_id, actor="cli", now=now)
        console.print(f"study {study_id} failed ({study.reason}); what broke is tried again")
    if budget is not None:
        study = extend_study(store, study_id, parse_budget(budget), actor="cli", now=now)
        console.print(f"study {study_id} goes on with {study.spec.tuning.budget.engine_starts} engine starts in all")
    _say_study(study)


def _say_study(study: Study) -> None:
    limits = ", ".join(str(slo) for slo in study.spec.slos.latency)
    console.print(f"study {study.study_id} of {study.service}: {limits}", highlight=False)


def _settings(data_dir: Path, spec: ServiceSpec, gpus: int | None) -> Settings:
    known = (data_dir / installation.FILE).exists()
    settings = installation.load(data_dir)
    if settings.cluster is not None:
        return settings  # the cluster has the engines and the GPUs
    require_engines([spec])
    if known and gpus is None and settings.gpus:
        if needs_gpus(spec):
            gpus_of([spec], None)  # an installation of emulated GPUs has numbers, and no GPU
        return settings
    settings = settings.evolve(gpus=gpus_of([spec], gpus))
    installation.save(settings)
    return settings


def _new_study(store: Store, spec: ServiceSpec, *, now: datetime, apply: bool, warm_start: StudyId | None) -> StudyId:
    register_service(store, spec, actor="cli", now=now)
    if (rollout := active_rollout(store, spec.service)) is not None:
        said = (
            f"rollout {rollout.value.rollout_id} of {spec.name} is under way; the study waits for GPUs its canary holds"
        )
        console.print(f"[yellow]{said} (`fleetune rollout list`)[/]", highlight=False)
    study = create_study(
        store, service=spec.service, actor="cli", now=now, apply_when_done=apply, warm_start=warm_start
    )
    _say_study(study)
    if (
        isinstance(spec.workload, TraceWorkload)
        and (cut := cut_rows(spec.workload, load_trace(spec.workload.trace))).cut
    ):
        console.print(f"[yellow]trace {spec.workload.trace}: {cut.words(spec.workload)}[/]", highlight=False)
    if study.plan is not None:
        for line in plan_lines(study.plan):
            console.print(line, highlight=False)
    if spec.engine.time_lapse != 1:
        console.print(f"[yellow]emulated {spec.gpus.type}s, time runs {spec.engine.time_lapse:g} × as fast[/]")
    return study.study_id


def _run(settings: Settings, store: Store, study_id: StudyId, workers: int) -> Study:
    """Run the study here, beside whoever works on it, until it is over. Ctrl-C lets go: the study can be resumed."""
    if (known := store.get_study(study_id).value).state in STUDY_FINAL:
        return known  # what is over is shown
    stop = stop_event()
    with StudyBar(console) as bar, helping_workers(settings, study_id, workers - 1):
        shown: set[int] = set()

        def show(progress: StudyProgress) -> None:
            bar.show(progress)
            _keep_finished(store, study_id, bar, shown)

        work.study_runner(settings, "cli", should_stop=stop.is_set, on_progress=show).join(study_id)
        while store.get_study(study_id).value.state not in STUDY_FINAL and not stop.is_set():
            _keep_finished(store, study_id, bar, shown)
            time.sleep(FOLLOW_EVERY_S)
        _keep_finished(store, study_id, bar, shown)
    return store.get_study(study_id).value


def _keep_finished(store: Store, study_id: StudyId, bar: StudyBar, shown: set[int]) -> None:
    """Print trials that ended since, and once what the baseline's levels made of the twin."""
    for trial, _ in store.list_trials(study_id):
        if trial.state is not TrialState.RUNNING and trial.number not in shown:
            shown.add(trial.number)
            bar.keep(trial)
    calibration = store.get_study(study_id).value.calibration
    if calibration is not None and _CALIBRATED not in shown:
        shown.add(_CALIBRATED)
        bar.say(calibration.summary)


def _conclude(study: Study, data_dir: Path) -> None:
    resume = f"`fleetune tune --resume {study.study_id} --data-dir {data_dir}`"
    if study.recommendation is not None:
        console.print()
        as_lines(study.recommendation.model_dump(mode="json"), RECOMMENDATION.details)
        found = study.recommendation
        if study.apply_when_done and found.improvement and found.applied_revision is None:
            console.print("the controller of `fleetune up` starts the canary; see `fleetune rollout list`")
        return
    if study.state is StudyState.FAILED:
        again = f"{resume} to try again, with `--budget` to let it use more"
        raise ExperimentFailed(f"study {study.study_id} failed", why=study.reason or "", allowed=again)
    goes_on = "; workers of a `fleetune up` go on with it" if study.state is StudyState.RUNNING else ""
    console.print(f"study {study.study_id} is {study.state.value}{goes_on}; {resume} joins in", soft_wrap=True)
