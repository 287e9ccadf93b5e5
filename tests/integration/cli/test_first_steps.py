"""From nothing to a service that runs, and what is refused before anything is started."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from controlplane.adapters.store_sql.store import open_store
from controlplane.cli.init import SHAPES
from controlplane.cli.main import app
from controlplane.host.locks import alone
from controlplane.host.ports import free_port
from controlplane.host.processes import this_process
from controlplane.reading.service_file import load_service
from controlplane.services.check_service import check_service
from tests.builders_serving import an_applicable_study
from tests.integration.cli.conftest import Fleetune
from tuner.twin.shapes import SHIPPED_SHAPES


def run(*args: str, answers: str = "") -> Result:
    return CliRunner().invoke(app, list(args), input=answers)


@pytest.mark.parametrize("model", SHIPPED_SHAPES)
@pytest.mark.parametrize("gpus", ["8xH200", "4 x A100-80", "8×L40S"])
def test_what_init_writes_is_a_service_that_could_be_served(tmp_path: Path, model: str, gpus: str) -> None:
    file = tmp_path / "service.yaml"
    done = run("init", "--model", model, "--gpus", gpus, "--limits", "2000,80", "--qps", "5", "-f", str(file))
    assert done.exit_code == 0, done.output
    spec = load_service(file)
    check_service(spec)
    assert (spec.model.path, spec.slos.target_qps) == (model, 5)
    assert [slo.limit_ms for slo in spec.slos.latency] == [2000, 80]


@pytest.mark.parametrize(
    ("url", "says"),
    [("http://ann:hunter2@mlflow:5000", "holds a password"), ("sqlite:///x.db", "is no URL of a server")],
)
def test_a_url_of_mlflow_that_cannot_be_used_is_said_before_anything_is_written(
    tmp_path: Path, url: str, says: str
) -> None:
    file, folder = tmp_path / "service.yaml", tmp_path / "data"
    run("init", "--model", "llama-1b", "--gpus", "2xL4", "--limits", "500,50", "--qps", "3", "-f", str(file))
    done = run("up", "-f", str(file), "--data-dir", str(folder), "--mlflow-url", url)
    assert done.exit_code == 2
    assert says in done.output
    assert "hunter2" not in done.output
    assert not folder.exists()


def test_init_asks_what_it_is_not_told(tmp_path: Path) -> None:
    file = tmp_path / "service.yaml"
    done = run("init", "-f", str(file), answers="llama-1b\n2xL4\n500,50\n3\n")
    assert done.exit_code == 0, done.output
    assert (load_service(file).gpus.count, load_service(file).slos.target_qps) == (2, 3)


def test_a_file_that_init_could_not_write_is_refused(tmp_path: Path) -> None:
    given = ("init", "--model", "llama-1b", "--gpus", "1xL4", "--limits", "500,50", "--qps", "1")
    refused = run(*given, "-f", str(tmp_path / "gone" / "service.yaml"))
    assert (refused.exit_code, "is no folder that can be written" in refused.output) == (2, True)
    assert run(*given, "--force", "-f", str(tmp_path)).exit_code == 2


def test_a_name_that_yaml_would_take_for_more_is_written_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "service.yaml"
    given = ("init", "--real", "--gpus", "1xL4", "--limits", "500,50", "--qps", "1", "-f", str(file))
    assert run(*given, "--model", "a: [b").exit_code == 0
    assert load_service(file).model.path == "a: [b"


def test_init_writes_over_nothing_unless_told_to(tmp_path: Path) -> None:
    file = tmp_path / "service.yaml"
    file.write_text("mine")
    given = ("init", "--model", "llama-1b", "--gpus", "1xL4", "--limits", "500,50", "--qps", "1", "-f", str(file))
    assert run(*given).exit_code == 2
    assert file.read_text() == "mine"
    assert run(*given, "--force").exit_code == 0


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--model", "nowhere", "llama-1b, llama-8b, llama-70b"),
        ("--gpus", "eight", "8xH200"),
        ("--gpus", "1xL4", "does not fit"),
        ("--gpus", "0xH200", "'0xH200' names no GPUs"),
        ("--model", "[a: b", "there is no "),
        ("--limits", "2000", "2000,80"),
        ("--qps", "0", "target_qps"),
    ],
)
def test_an_answer_that_cannot_be_used_is_refused_and_nothing_written(
    tmp_path: Path, option: str, value: str, said: str
) -> None:
    given = {"--model": "llama-70b", "--gpus": "8xH200", "--limits": "2000,80", "--qps": "5", option: value}
    done = run("init", *(word for pair in given.items() for word in pair), "-f", str(tmp_path / "service.yaml"))
    assert done.exit_code == 2
    assert said in done.output
    assert not (tmp_path / "service.yaml").exists()


def test_a_hub_name_is_refused_for_the_emulator_with_what_takes_it(tmp_path: Path) -> None:
    given = ("init", "--model", "some/model", "--gpus", "1xL4", "--limits", "500,50", "--qps", "1")
    refused = run(*given, "-f", str(tmp_path / "emulated.yaml"))
    assert refused.exit_code == 2
    assert "of a hub name alone nothing is known here" in refused.output
    assert "--real for what vLLM fetches from a hub" in refused.output
    assert run(*given, "--real", "-f", str(tmp_path / "real.yaml")).exit_code == 0


def test_help_names_every_shape_that_ships() -> None:
    assert {name for name in SHIPPED_SHAPES if name not in SHAPES} == set()


def test_a_demo_empties_no_folder_of_somebody_else(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    refused = run("demo", "--data-dir", str(tmp_path))
    assert refused.exit_code == 2
    assert "no folder of a demo" in refused.output
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize("command", ["demo", "tune"])
def test_a_result_that_could_not_be_written_is_refused_before_the_work(tmp_path: Path, command: str) -> None:
    out = str(tmp_path / "gone" / "study.json")
    refused = run(command, "--json", out, "--data-dir", str(tmp_path / "data"))
    assert (refused.exit_code, f"cannot write {out}" in refused.output) == (2, True)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("command", ["demo", "tune", "up"])
def test_a_data_folder_that_is_a_file_is_refused(tmp_path: Path, command: str) -> None:
    (tmp_path / "data").touch()
    run("init", "--model", "llama-1b", "--gpus", "2xL4", "--limits", "500,50", "--qps", "3", "-f", str(tmp_path / "s"))
    refused = run(command, "-f", str(tmp_path / "s"), "--data-dir", str(tmp_path / "data"))
    assert (refused.exit_code, f"{tmp_path}/data is a file" in refused.output) == (2, True)


@pytest.mark.parametrize("command", ["tune", "up"])
@pytest.mark.parametrize("count", ["-2", "0"])
def test_less_than_one_gpu_is_refused_before_it_is_kept(tmp_path: Path, command: str, count: str) -> None:
    refused = run(command, "-f", str(tmp_path / "s"), "--gpus", count, "--data-dir", str(tmp_path / "data"))
    assert (refused.exit_code, "greater than or equal to 1" in refused.output) == (2, True)


def real_service(folder: Path) -> str:
    run("init", "--model", "llama-8b", "--gpus", "1xH200", "--limits", "500,50", "--qps", "1", "--real",
        "-f", str(folder / "real.yaml"))  # fmt: skip
    return str(folder / "real.yaml")


@pytest.mark.parametrize("command", ["up", "tune"])
def test_real_engines_without_vllm_are_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = run(command, "-f", real_service(tmp_path), "--data-dir", str(tmp_path / "data"))
    assert (done.exit_code, "pip install fleetune[vllm]" in done.output) == (2, True)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("known", [False, True], ids=["a fresh folder", "an installation of emulated GPUs"])
def test_tuning_real_engines_without_gpus_is_refused_before_a_study_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    program = tmp_path / "vllm"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))  # a vllm, and no nvidia-smi
    data = tmp_path / "data"
    if known:
        data.mkdir()
        (data / "installation.json").write_text(json.dumps({"data_dir": str(data), "gpus": [0, 1, 2, 3]}))
    done = run("tune", "-f", real_service(tmp_path), "--data-dir", str(data))
    assert (done.exit_code, "no GPU for engine kind vllm" in done.output) == (2, True)
    assert not (data / "fleetune.db").exists()


def test_a_second_up_on_one_folder_says_how_to_add_a_service(tmp_path: Path) -> None:
    file = tmp_path / "service.yaml"
    run("init", "--model", "llama-8b", "--gpus", "1xH200", "--limits", "500,50", "--qps", "1", "-f", str(file))
    (tmp_path / "processes.json").write_text(json.dumps({"supervisor": this_process().model_dump()}))
    done = run("up", "-f", str(file), "--data-dir", str(tmp_path))
    assert (done.exit_code, "fleetune service register -f" in done.output) == (2, True)


def test_of_two_that_come_up_at_once_on_one_folder_one_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "service.yaml"
    run("init", "--model", "llama-8b", "--gpus", "1xH200", "--limits", "500,50", "--qps", "1", "-f", str(file))
    ports = [f"--{name}-port={free_port()}" for name in ("api", "gateway", "gateway-admin", "dashboard")]
    with alone(tmp_path / "up.lock", what="the other"):  # which has not yet written that it runs
        done = run("up", "-f", str(file), "--data-dir", str(tmp_path), *ports)
    assert (done.exit_code, "is up already" in done.output) == (2, True)


@pytest.mark.parametrize("door", ["up", "tune", "process prepare"])
def test_a_step_that_may_be_over_before_its_hangs_show_is_refused_by_every_door(
    fleetune: Fleetune, service_file: Callable[..., str], tmp_path: Path, door: str
) -> None:
    file = service_file(rollout={"steps": [{"weight_percent": 100, "min_s": 2}]})
    ports = [f"--{name}-port={free_port()}" for name in ("api", "gateway", "gateway-admin", "dashboard")]
    code, said = fleetune(*door.split(), "-f", file, *(ports if door == "up" else []))
    assert (code, "min_s 2 is shorter than 60 s" in said, "0 to wait for no hang" in said) == (2, True, True), said
    store = open_store(f"sqlite:///{tmp_path}/data/fleetune.db")
    assert not store.list_services()
    store.close()


def test_the_chart_s_first_process_says_which_names_nobody_knows(
    fleetune: Fleetune, service_file: Callable[..., str]
) -> None:
    code, said = fleetune("process", "prepare", "-f", service_file(gateway={"fallback": "small"}))
    assert (code, "note: chat: gateway.fallback is small" in said) == (0, True), said


def test_a_study_that_is_gone_on_with_needs_no_file(fleetune: Fleetune, tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/data/fleetune.db")
    store.save_study(an_applicable_study("chat-1", apply_when_done=False), 0)
    code, said = fleetune("tune", "--resume", "chat-1")
    assert (code, "half the cost" in said) == (0, True)


def test_tuning_nothing_says_what_can_be_tuned(fleetune: Fleetune) -> None:
    code, said = fleetune("tune")
    assert (code, "-f service.yaml, or --resume STUDY" in said) == (2, True)
