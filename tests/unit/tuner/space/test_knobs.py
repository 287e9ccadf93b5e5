"""The flag schemas: what ships, what is refused, and how a schema is extracted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from controlplane.domain.engines.engine import EngineConfig, EngineKind
from controlplane.domain.engines.flags import FlagValue
from controlplane.domain.errors import InvalidInput
from controlplane.domain.service import EngineOptions
from tuner.space.knobs.checks import check_flags
from tuner.space.knobs.extract import as_json, extract
from tuner.space.knobs.help_texts import from_help
from tuner.space.knobs.removed import removed_flags
from tuner.space.knobs.schema import KnobSchema, KnobType, load_knobs, shipped_versions

ARG_UTILS = """
@dataclass
class EngineArgs:
    def add_cli_args(parser):
        scheduler_kwargs = get_kwargs(SchedulerConfig)
        group.add_argument("--max-num-seqs", **{**scheduler_kwargs["max_num_seqs"], "default": None})
        group.add_argument("--scheduling-policy", "-sp", **scheduler_kwargs["policy"])
        group.add_argument("--kv-offload", **scheduler_kwargs["offload"])
        group.add_argument("--enable-lora", action=argparse.BooleanOptionalAction)
"""
CONFIG = """
Base = Literal["fcfs"]
Policy = Literal[Base, "priority"]
class SchedulerConfig:
    max_num_seqs: int = Field(default=128, ge=1)
    policy: Policy = "fcfs"
    offload: float | None = None
"""
CLI_ARGS = """
class BaseFrontendArgs:
    tokens_only: bool = False
class FrontendArgs(BaseFrontendArgs):
    port: int = 8000
"""


VLLM = EngineOptions(kind=EngineKind.VLLM, version="0.26")


def config(**flags: FlagValue) -> EngineConfig:
    return EngineConfig(flags=flags)


def unpacked(folder: Path) -> Path:
    for name, text in {
        "vllm/engine/arg_utils.py": ARG_UTILS,
        "vllm/config/scheduler.py": CONFIG,
        "vllm/entrypoints/openai/cli_args.py": CLI_ARGS,
        "vllm/_version.py": "version = '9.9.1'",
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def own_file(folder: Path, version: str) -> EngineOptions:
    path = folder / "vllm.json"
    path.write_text(as_json(extract(unpacked(folder))))
    return EngineOptions(kind=EngineKind.VLLM, version=version, flag_file=str(path))


@pytest.mark.parametrize("version", ["0.26", "0.33"])
def test_shipped_schemas_know_every_flag_the_tuner_searches(version: str) -> None:
    schema = load_knobs(version)
    for name in [
        "quantization",
        "kv-cache-dtype",
        "max-num-seqs",
        "max-num-batched-tokens",
        "tensor-parallel-size",
        "pipeline-parallel-size",
        "gpu-memory-utilization",
        "max-model-len",
        "enable-chunked-prefill",
        "enable-prefix-caching",
        "performance-mode",
        "long-prefill-token-threshold",
        "speculative-config",
        "shutdown-timeout",
    ]:
        assert schema.find(name) is not None, name
    assert len(schema.flags) > 200


def test_admission_limits_exist_in_033_only() -> None:
    assert load_knobs("0.33").find("max-num-queued-reqs") is not None
    assert load_knobs("0.26").find("max-num-queued-reqs") is None


def test_shipped_versions_are_listed_oldest_first() -> None:
    assert shipped_versions() == ("0.26", "0.33")


def test_a_version_between_two_shipped_ones_uses_the_older_file() -> None:
    assert load_knobs("0.29.1").version == load_knobs("0.26.0").version


@pytest.mark.parametrize(("version", "why"), [("0.9.0", "older"), ("0.99", "newer"), ("1.0", "newer")])
def test_a_version_older_or_newer_than_all_is_refused_and_says_how_to_go_on(version: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=rf"{why} than every.*0\.26 to 0\.33.*knobs extract.*engine\.flag_file"):
        load_knobs(version)


def test_a_flag_file_of_ones_own_stands_in_for_a_version_that_does_not_ship(tmp_path: Path) -> None:
    engine = own_file(tmp_path, "9.9")
    check_flags(config(max_num_seqs=256, tokens_only=True), engine)
    with pytest.raises(InvalidInput, match=r"vLLM 9\.9\.1 cannot .* there is no --quantization"):
        check_flags(config(quantization="fp8"), engine)


def test_a_flag_file_of_another_version_or_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"made from 9\.9\.1, engine\.version is 0\.99"):
        check_flags(config(), own_file(tmp_path, "0.99"))
    (tmp_path / "vllm.json").write_text('{"version": "0.99.0"}')
    with pytest.raises(InvalidInput, match=r"no flag file.*flags: Field required.*knobs extract"):
        check_flags(config(), VLLM.evolve(flag_file=str(tmp_path / "vllm.json")))
    with pytest.raises(InvalidInput, match=r"cannot read the flag file.*knobs extract"):
        check_flags(config(), VLLM.evolve(flag_file=str(tmp_path / "missing.json")))


def test_a_refusal_by_an_older_file_says_so() -> None:
    with pytest.raises(InvalidInput, match=r"vLLM 0\.30 cannot .*known in 0\.33.*the flags of 0\.26\.0"):
        check_flags(config(max_num_queued_reqs=10), VLLM.evolve(version="0.30"))


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("swap_space", r"--swap-space was removed \(0\.17\.0 has it, 0\.18\.0 has not\): leave it out"),
        ("disable-log-requests", "leave it out, requests are logged only with --enable-log-requests"),
        ("worker-use-ray", "use --distributed-executor-backend=ray"),
        ("prompt-adapters", r"--prompt-adapters was removed \(0\.9\.2 has it, 0\.10\.0 has not\)$"),
    ],
)
def test_a_removed_flag_says_so_and_what_to_use(flag: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        check_flags(EngineConfig(flags={flag: 1}), VLLM)


def test_what_a_removed_flag_is_replaced_by_exists_and_the_flag_does_not() -> None:
    for version in shipped_versions():
        schema = load_knobs(version)
        for name, removed in removed_flags().items():
            assert schema.find(name) is None, name
            for offered in re.findall(r"--([a-z-]+)", removed.instead or ""):
                assert schema.find(offered) is not None, offered


def test_valid_flags_pass() -> None:
    check_flags(config(max_num_seqs=256, kv_cache_dtype="fp8", enable_prefix_caching=False, quantization="fp8"), VLLM)


def test_an_unknown_flag_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(InvalidInput, match="did you mean --max-num-seqs"):
        check_flags(config(max_num_seq=256), VLLM)


def test_a_flag_of_another_version_is_refused_and_says_where_it_is_known() -> None:
    with pytest.raises(InvalidInput, match=r"known in 0\.33"):
        check_flags(config(max_num_queued_reqs=10), VLLM)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("performance-mode", "fast", "is not one of balanced"),
        ("max-num-seqs", "many", "is not of type int"),
        ("max-num-seqs", 12.5, "is not of type int"),
        ("max-num-seqs", True, "is not of type int"),
        ("gpu-memory-utilization", "most", "is not of type float"),
        ("enable-prefix-caching", 3, "is not of type bool"),
        ("quantization", True, "is not of type str"),
    ],
)
def test_a_value_the_flag_cannot_take_is_refused(name: str, value: FlagValue, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        check_flags(EngineConfig(flags={name: value}), VLLM)


def test_human_readable_sizes_are_integers() -> None:
    check_flags(config(max_num_batched_tokens="8k", max_model_len="auto"), VLLM)


def test_extraction_reads_types_defaults_and_choices_from_source(tmp_path: Path) -> None:
    schema = extract(unpacked(tmp_path))
    assert schema.version == "9.9.1"
    assert schema.flags["max-num-seqs"].type is KnobType.INT
    assert schema.flags["max-num-seqs"].default is None
    assert schema.flags["scheduling-policy"].choices == ("fcfs", "priority")
    assert schema.find("sp") == schema.flags["scheduling-policy"]
    assert schema.flags["kv-offload"].optional
    assert schema.flags["enable-lora"].type is KnobType.BOOL
    assert schema.flags["port"].default == 8000
    assert schema.flags["tokens-only"].type is KnobType.BOOL


def test_a_schema_file_reads_back_as_it_was(tmp_path: Path) -> None:
    schema = extract(unpacked(tmp_path))
    assert KnobSchema.model_validate_json(as_json(schema)) == schema


def test_a_folder_without_vllm_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no vLLM"):
        extract(tmp_path)


def test_help_text_gives_names_choices_and_defaults() -> None:
    text = (
        "usage: vllm serve\n\nSchedulerConfig:\n  --max-num-seqs MAX_NUM_SEQS\n      Sequences. (default: 128)\n"
        "  --scheduling-policy {fcfs,priority}\n      Policy. (default: fcfs)\n"
        "  --async-scheduling, --no-async-scheduling\n      Async. (default: None)\n"
    )
    flags = from_help(text).flags
    assert flags["max-num-seqs"].type is KnobType.INT
    assert flags["scheduling-policy"].choices == ("fcfs", "priority")
    assert flags["async-scheduling"].type is KnobType.BOOL
    assert flags["async-scheduling"].group == "SchedulerConfig"


def test_a_text_without_flags_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no flags"):
        from_help("nothing to see")
