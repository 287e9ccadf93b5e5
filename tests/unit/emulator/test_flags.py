"""The command line takes what vLLM takes and refuses what vLLM refuses, in its words."""

from __future__ import annotations

import pytest

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.engines.flags import human_int
from controlplane.emulator.faults import Faults
from controlplane.emulator.flags import parse_command_line
from controlplane.emulator.settings import EmulatorSettings


def parsed(*words: str, visible_devices: int | None = None) -> EmulatorSettings:
    return parse_command_line(words, visible_devices=visible_devices)


@pytest.mark.parametrize(
    "words",
    [
        ("llama-8b", "--max-num-seqs=64", "--no-enable-prefix-caching"),
        ("serve", "llama-8b", "--max-num-seqs", "64", "--no-enable-prefix-caching"),
        ("--max_num_seqs=64", "--no-enable_prefix_caching", "llama-8b"),
    ],
)
def test_the_same_flags_written_differently_are_the_same_engine(words: tuple[str, ...]) -> None:
    settings = parsed(*words)
    assert settings.model == "llama-8b"
    assert settings.config == EngineConfig(flags={"max-num-seqs": 64, "enable-prefix-caching": False})


def test_an_engine_config_survives_the_command_line() -> None:
    config = EngineConfig(
        flags={
            "max-num-seqs": 64,
            "gpu-memory-utilization": 0.85,
            "enforce-eager": True,
            "enable-prefix-caching": False,
            "kv-cache-dtype": "fp8",
            "max-model-len": 8192,
            "quantization": "fp8",
        }
    )
    assert parsed("llama-8b", *config.to_args()).config == config


def test_flags_of_the_server_are_not_part_of_the_engine() -> None:
    words = ["m", "--host=::1", "--port=1234", "--served-model-name", "a", "b", "--api-key=k", "--shutdown-timeout=30"]
    settings = parsed(*words)
    assert (settings.host, settings.port, settings.served_names) == ("::1", 1234, ("a", "b"))
    assert (settings.api_keys, settings.shutdown_timeout_s) == (("k",), 30)
    assert settings.config == EngineConfig()


def test_an_api_key_is_never_shown() -> None:
    assert "hush" not in repr(parsed("m", "--api-key=hush"))


def test_without_a_served_name_the_model_answers_to_its_own() -> None:
    assert parsed("llama-8b").served_names == ("llama-8b",)


def test_emulator_flags_are_read() -> None:
    settings = parsed(
        "m",
        "--emulator-gpu=L40S",
        "--emulator-time-lapse=10",
        "--emulator-startup-s=1.5",
        "--emulator-fault=slow-factor=3,slow-from-s=10",
        "--emulator-seed=7",
    )
    assert (settings.gpu, settings.time_lapse, settings.startup_s, settings.seed) == ("L40S", 10, 1.5, 7)
    assert settings.faults == Faults(slow_factor=3, slow_from_s=10)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["m", "--max-num-sqs=4"], "error: unrecognized arguments: --max-num-sqs=4"),
        (["m", "--max-num-seqs=many"], "error: argument --max-num-seqs: invalid"),
        (["m", "--kv-cache-dtype=fp3"], "error: argument --kv-cache-dtype: invalid choice: 'fp3'"),
        (["m", "--emulator-time-lapse=1000"], "must be between 0.1 and 50"),
        (["m", "--emulator-fault=explode=1"], "explode"),
        (["m", "--max-num-seq=4"], "unrecognized arguments"),
        ([], "the following arguments are required: model_tag"),
    ],
)
def test_a_refused_flag_exits_with_2_and_says_which(
    words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        parsed(*words)
    assert exit_.value.code == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(("text", "number"), [("8192", 8192), ("8k", 8000), ("8K", 8192), ("25.6k", 25600), ("-1", -1)])
def test_human_readable_integers(text: str, number: int) -> None:
    assert human_int(text) == number


@pytest.mark.parametrize("text", ["", "k", "1.5K", "1e3", "8kk"])
def test_what_is_no_human_readable_integer(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        human_int(text)
