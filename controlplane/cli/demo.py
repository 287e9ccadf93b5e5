"""`fleetune demo`: the whole loop on emulated GPUs under live traffic, from the baseline to the promoted winner."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from controlplane.cli.client import ApiClient
from controlplane.cli.errors import plain_errors
from controlplane.cli.files import require_folder_place, require_writable
from controlplane.cli.installation.compiling import compile_twin
from controlplane.cli.installation.down import stop
from controlplane.cli.installation.running import supervisor_pid
from controlplane.cli.tables.demo_summary import facts, print_summary
from controlplane.cli.tables.progress import describe_trial
from controlplane.cli.tables.show import console
from controlplane.cli.traffic import LiveTraffic, Traffic
from controlplane.domain.errors import ExperimentFailed, InvalidInput, Unavailable
from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.study import Trial
from controlplane.host.ports import free_port, is_free
from controlplane.reading.service_file import load_service

EXAMPLE = Path(__file__).with_name("examples") / "demo.yaml"
PORTS = {"api": 8700, "gateway": 8000, "gateway-admin": 8001, "dashboard": 8501}
HERE = Path(".fleetune/demo")
MADE_BY = "made-by-demo"  # lies in the folder of a demo: what may be emptied
READY_S = 120.0
STUDY_S = 900.0
ROLLOUT_S = 600.0
SETTLE_S = 5.0
SEEDED = "service.yaml"  # in the data folder: what was served, with its seed


@plain_errors
def demo(
    file: Annotated[Path, typer.Option("-f", "--file", help="The demo's service.")] = EXAMPLE,
    data_dir: Annotated[Path, typer.Option(help="Emptied at the start; only an earlier demo's is.")] = HERE,
    json_: Annotated[Path | None, typer.Option("--json", help="Write the facts of the summary as JSON.")] = None,
    stay: Annotated[bool, typer.Option(help="Leave the control plane and the dashboard up.")] = False,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of arrivals, lengths and search; default: those of the file.")
    ] = None,
) -> None:
    """Serve live traffic, tune, roll the winner out, and show baseline and winner side by side. No GPU needed."""
    require_writable(json_)
    require_folder_place(data_dir)
    _refuse_others(data_dir)
    spec = load_service(file)
    began = time.monotonic()
    _say(f"[yellow]The {spec.gpus.count} {spec.gpus.type} GPUs are EMULATED[/]: latencies come from the digital twin.")
    if spec.engine.time_lapse != 1:
        _say(f"Emulated time runs {spec.engine.time_lapse:g} × the wall clock's speed; figures are in emulated time.")
    compile_twin()
    ports = _fresh(data_dir)
    if seed is not None:
        file, spec = data_dir / SEEDED, seeded(spec, seed)
        file.write_text(yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False))
    process = _up(file, data_dir, ports)
    stayed = False
    try:
        loop = Loop(
            spec, ApiClient(url=f"http://127.0.0.1:{ports['api']}", key=None, data_dir=data_dir), data_dir, ports
        )
        result = loop.run()
        print_summary(result, spec, minutes=(time.monotonic() - began) / 60)
        if json_ is not None:
            json_.write_text(json.dumps(result, indent=1))
        _say(f"the dashboard {'stays' if stay else 'was'} at http://127.0.0.1:{ports['dashboard']}")
        stayed = stay
    finally:
        if not stayed:
            process.terminate()
            process.wait()
    if stayed:
        _say(f"stop it with: fleetune down --data-dir {data_dir}")


def seeded(spec: ServiceSpec, seed: int) -> ServiceSpec:
    """Return the service with other arrivals, other lengths and another search."""
    return spec.evolve(workload=spec.workload.evolve(seed=seed), tuning=spec.tuning.evolve(seed=seed))


class Loop:
    """The steps of the demo, each told as it happens."""

    def __init__(self, spec: ServiceSpec, api: ApiClient, data_dir: Path, ports: dict[str, int]) -> None:
        self._spec = spec
        self._api = api
        self._told: set[str] = set()
        traffic = Traffic(
            workload=spec.workload,
            rate_rps=spec.workload.rate_rps or spec.slos.target_qps,
            url=f"http://127.0.0.1:{ports['gateway']}",
            model=spec.model.name,
            time_lapse=spec.engine.time_lapse,
        )
        self._traffic = LiveTraffic(traffic, data_dir / "live-traffic")
        self._rate_rps = traffic.rate_rps

    def run(self) -> dict[str, Any]:
        """Return the facts of the whole run. Raises Unavailable when a step does not come to its end."""
        _await("the baseline's replicas", self._is_serving, READY_S)
        _say(f"serving: {self._spec.initial_replicas} replicas of {_flags(dict(self._spec.baseline.flags))}")
        self._traffic.start()
        _say(f"live traffic: {self._rate_rps:g} requests/s of the trace through the gateway, until the end")
        study = self._study()
        rollout = self._rollout() if study["recommendation"]["improvement"] else None
        time.sleep(SETTLE_S)
        report = self._traffic.stop()
        trials = self._api.get(f"/studies/{study['study_id']}/trials")["items"]
        return facts(study, trials, rollout, report)

    def _is_serving(self) -> bool:
        engines = self._api.get("/fleet")["engines"]
        ready = [engine for engine in engines if engine["state"] == "ready"]
        return len(ready) >= self._spec.initial_replicas

    def _study(self) -> dict[str, Any]:
        study = self._api.post("/studies", {"service": self._spec.name, "apply_when_done": True})
        _say(f"study {study['study_id']}: each trial is one engine start and the highest rate that meets the SLOs")
        path = f"/studies/{study['study_id']}"

        def over() -> bool:
            self._tell_trials(self._api.get(f"{path}/trials")["items"])
            return self._api.get(path)["state"] in ("done", "failed", "aborted")

        _await("the study", over, STUDY_S, show=self._pulse)
        done: dict[str, Any] = self._api.get(path)
        if done["recommendation"] is None:
            raise ExperimentFailed(f"study {done['study_id']} {done['state']}", why=done["reason"] or "")
        _say(done["recommendation"]["summary"])
        return done

    def _rollout(self) -> dict[str, Any]:
        _await("the rollout to start", lambda: bool(self._rollouts()), READY_S)

        def over() -> bool:
            rollout = self._rollouts()[0]
            self._tell_steps(rollout)
            return rollout["state"] in ("promoted", "aborted", "halted", "paused")

        _await("the rollout", over, ROLLOUT_S, show=self._pulse)
        rollout: dict[str, Any] = self._rollouts()[0]
        _say(f"rollout {rollout['state']}: {rollout['reason']}")
        return rollout

    def _rollouts(self) -> list[dict[str, Any]]:
        return [each for each in self._api.get("/rollouts", service=self._spec.name)["items"] if each["stable"]]

    def _tell_trials(self, trials: list[dict[str, Any]]) -> None:
        for raw in trials:
            trial = Trial.model_validate(raw)
            key = f"trial-{trial.number}-{trial.state}"
            if trial.state != "running" and key not in self._told:
                self._told.add(key)
                _say(describe_trial(trial))

    def _tell_steps(self, rollout: dict[str, Any]) -> None:
        for step in rollout["steps"]:
            verdict = step["analysis"]["verdict"] if step["analysis"] else "waiting"
            over = step["finished_at"] is not None
            key = f"step-{step['index']}-{over}"
            if key not in self._told:
                self._told.add(key)
                reason = (
                    f": {verdict}, {step['analysis']['reason']}"
                    if over and step["analysis"]
                    else ": collecting samples"
                )
                _say(f"  canary at {step['weight_percent']} %{reason}")

    def _pulse(self) -> str:
        latest = self._traffic.latest
        if latest is None:
            return ""
        failed = sum(1 for record in latest.records if not record.ok)
        return f"live traffic: {len(latest.records)} answered, {failed} failed, {latest.in_flight} in flight"


def _refuse_others(data_dir: Path) -> None:
    """Raise InvalidInput for a folder that somebody else filled: it would be emptied."""
    if not data_dir.exists() or (data_dir / MADE_BY).exists() or data_dir == HERE or not any(data_dir.iterdir()):
        return
    raise InvalidInput(
        f"{data_dir} is no folder of a demo",
        why="a demo empties its folder at the start, and something else lies there",
        allowed="one that is not there, that is empty, or of an earlier demo",
    )


def _fresh(data_dir: Path) -> dict[str, int]:
    pid = supervisor_pid(data_dir)
    if pid is not None:
        stop(pid)
    shutil.rmtree(data_dir, ignore_errors=True)
    data_dir.mkdir(parents=True)
    (data_dir / MADE_BY).touch()
    return {name: port if is_free("127.0.0.1", port) else free_port() for name, port in PORTS.items()}


def _up(file: Path, data_dir: Path, ports: dict[str, int]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "controlplane.cli.main", "up", "-f", str(file), "--data-dir", str(data_dir)]
    command += [f"--{name}-port={port}" for name, port in ports.items()]
    with (data_dir / "up.log").open("wb") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)


def _await(what: str, done: Callable[[], bool], within_s: float, *, show: Callable[[], str] | None = None) -> None:
    deadline = time.monotonic() + within_s
    with console.status(f"waiting for {what}") as status:
        while not _answered(done):
            if time.monotonic() > deadline:
                raise ExperimentFailed(f"{what} did not come to its end", why=f"waited {within_s:g} s; see the logs")
            if show is not None:
                status.update(f"{what} … {show()}")
            time.sleep(1.0)


def _answered(done: Callable[[], bool]) -> bool:
    try:
        return done()
    except Unavailable:  # a process of the control plane is starting
        return False


def _flags(flags: dict[str, Any]) -> str:
    return " ".join(f"--{name}={value}" for name, value in flags.items())


def _say(text: str) -> None:
    console.print(text, highlight=False)
