"""The command line and environment an engine is started with."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from controlplane.adapters.engine_counts import parse_in_flight
from controlplane.adapters.fleet_processes.commands import command_line, environment
from controlplane.adapters.fleet_processes.devices import nvidia_gpus
from controlplane.domain.base import EngineId
from controlplane.domain.engines.engine import EngineConfig, EngineKind
from controlplane.domain.engines.flags import FlagValue
from controlplane.domain.engines.fleet import EngineSpec
from controlplane.domain.engines.kinds.vllm import VLLM
from controlplane.domain.errors import InvalidInput


def a_spec(
    *, kind: EngineKind = EngineKind.EMULATOR, command: tuple[str, ...] | None = None, **flags: FlagValue
) -> EngineSpec:
    return EngineSpec(
        engine_id=EngineId("e-1"),
        owner="trial/s/1",
        kind=kind,
        model="/models/llama 8b",
        served_name="llama",
        config=EngineConfig(flags={name.replace("_", "-"): value for name, value in flags.items()}),
        gpus=1,
        command=command,
        env={"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "7"},
    )


def test_the_emulator_runs_in_this_python_with_the_flags_of_the_config() -> None:
    words = command_line(a_spec(max_num_seqs=8), host="127.0.0.1", port=8001)
    assert words[:4] == (sys.executable, "-m", "controlplane.emulator.main", "/models/llama 8b")
    assert words[4:8] == ("--host", "127.0.0.1", "--port", "8001")
    assert words[8:] == ("--served-model-name=llama", "--shutdown-timeout=30", "--max-num-seqs=8")


def test_a_stated_shutdown_timeout_is_kept() -> None:
    words = command_line(a_spec(shutdown_timeout=5), host="h", port=1)
    assert [word for word in words if "shutdown" in word] == ["--shutdown-timeout=5"]


def test_a_model_folder_with_a_space_is_one_word_of_a_shell_and_of_a_command() -> None:
    spec = a_spec().evolve(model="/my models/llama 8b")
    shell = command_line(spec.evolve(command=("sh", "-c", "exec e {model} {port} {args}")), host="h", port=1)
    plain = command_line(
        spec.evolve(command=("sh", "{model}", "--model={model}", "{port}", "{args}")), host="h", port=1
    )
    assert shlex.split(shell[2])[:4] == ["exec", "e", "/my models/llama 8b", "1"]
    assert plain[1:3] == ("/my models/llama 8b", "--model=/my models/llama 8b")


def test_a_template_is_filled_word_by_word() -> None:
    template = ("env", "A=1", "/bin/vllm", "serve", "{model}", "--port={port}", "--host", "{host}", "{args}")
    words = command_line(a_spec(command=template, max_num_seqs=8), host="::1", port=9)
    assert words[:7] == ("env", "A=1", "/bin/vllm", "serve", "/models/llama 8b", "--port=9", "--host")
    assert words[7:] == ("::1", "--served-model-name=llama", "--shutdown-timeout=30", "--max-num-seqs=8")


def test_arguments_inside_a_longer_word_are_quoted_for_a_shell() -> None:
    template = ("sh", "-c", "exec engine --port {port} {args}")
    words = command_line(a_spec(command=template, chat_template="a b"), host="h", port=9)
    assert words[2].startswith("exec engine --port 9 --served-model-name=llama")
    assert "'--chat-template=a b'" in words[2]


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (("sh", "serve", "{args}"), "{port}"),
        (("sh", "serve", "{port}"), "{args}"),
        (("/no/such/vllm", "{port}", "{args}"), "no such program"),
    ],
)
def test_a_wrong_template_is_refused(template: tuple[str, ...], said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        command_line(a_spec(command=template), host="h", port=9)
    assert said in str(refused.value)


def test_the_environment_is_inherited_but_for_fleetunes_own_settings() -> None:
    base = {"PATH": "/bin", "NCCL_NVLS_ENABLE": "0", "FLEETUNE_API_KEY": "secret", "HF_HUB_OFFLINE": "0"}
    base |= {"MLFLOW_TRACKING_TOKEN": "secret"}
    env = environment(a_spec(), base=base, gpu_indices=(2, 3), mark="/state#e-1")
    assert (env["PATH"], env["NCCL_NVLS_ENABLE"], env["HF_HUB_OFFLINE"]) == ("/bin", "0", "1")
    assert "secret" not in env.values()


def test_vllm_follows_no_redirects_of_pictures_unless_an_operator_says_so() -> None:
    name = "VLLM_MEDIA_URL_ALLOW_REDIRECTS"
    assert environment(a_spec(), base={name: "1"}, gpu_indices=(), mark="m")[name] == "0"
    allowed = a_spec().evolve(env={name: "1"})
    assert environment(allowed, base={}, gpu_indices=(), mark="m")[name] == "1"


def test_an_engine_sees_the_gpus_it_was_given_and_no_others() -> None:
    env = environment(a_spec(), base={}, gpu_indices=(2, 3), mark="/state#e-1")
    assert (env["CUDA_VISIBLE_DEVICES"], env["FLEETUNE_ENGINE"]) == ("2,3", "/state#e-1")


def test_the_api_key_of_an_engine_is_found_in_its_flags_or_environment() -> None:
    assert a_spec().api_key is None
    assert a_spec(api_key="one two").api_key == "one"
    assert a_spec().evolve(env={"VLLM_API_KEY": "three"}).api_key == "three"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ('vllm:num_requests_running{engine="0"} 3.0\nvllm:num_requests_waiting{engine="0"} 2.0\n', 5),
        (
            'vllm:num_requests_running{engine="0"} 1\nvllm:num_requests_running{engine="1"} 2\n'
            'vllm:num_requests_waiting{engine="0"} 0\nvllm:num_requests_waiting_by_reason{reason="x"} 9\n',
            3,
        ),
        ('# HELP vllm:num_requests_running x\nvllm:num_requests_running{engine="0"} 3.0\n', None),
        (
            "# the label holds what splitting by hand trips over\n"
            'vllm:num_requests_running{model_name="a } 9"} 3.0 1700000000000\n'
            'vllm:num_requests_waiting{model_name="a } 9"} 1.0 1700000000000\n',
            4,
        ),
        ("<html>not metrics</html>", None),
        ("vllm:num_requests_running NaN\nvllm:num_requests_waiting 0\n", None),
        ("vllm:num_requests_running +Inf\nvllm:num_requests_waiting 0\n", None),
        ("vllm:num_requests_running -1\nvllm:num_requests_waiting 0\n", None),
        ("", None),
    ],
)
def test_in_flight_is_running_and_waiting_over_all_engines(text: str, count: int | None) -> None:
    assert parse_in_flight(text, VLLM.metrics) == count


@pytest.fixture
def nvidia_smi(tmp_path: Path) -> str:
    """A PATH on which nvidia-smi lists three GPUs."""
    script = tmp_path / "nvidia-smi"
    script.write_text("#!/bin/sh\nprintf '0, GPU-aa\\n1, GPU-bb\\n2, GPU-cc\\n'\n")
    script.chmod(0o755)
    return f"{tmp_path}:/usr/bin:/bin"


@pytest.mark.parametrize(
    ("visible", "found"), [(None, (0, 1, 2)), ("1", (1,)), ("GPU-cc,0", (2, 0)), ("0, 2", (0, 2)), ("5,1", (1,))]
)
def test_gpus_are_those_nvidia_smi_lists_and_the_environment_admits(
    nvidia_smi: str, visible: str | None, found: tuple[int, ...]
) -> None:
    env = {"PATH": nvidia_smi} | ({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible})
    assert nvidia_gpus(env) == found


@pytest.mark.parametrize("env", [{"PATH": "/nowhere"}, {"PATH": "/nowhere", "CUDA_VISIBLE_DEVICES": ""}])
def test_a_host_without_gpus_says_so(env: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match="no NVIDIA GPU"):
        nvidia_gpus(env)
