"""Flag files of engines other than vLLM: what ships, what is refused, and how one is made."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from controlplane.domain.engines.drivers import driver_of
from controlplane.domain.engines.engine import ENGINE, EngineConfig, EngineKind
from controlplane.domain.engines.flags import FlagValue, canonical_flag
from controlplane.domain.errors import InvalidInput
from controlplane.domain.service import EngineOptions
from tuner.space.knobs.checks import check_flags
from tuner.space.knobs.extract import ENGINES, as_json, extract
from tuner.space.knobs.schema import KnobSchema, KnobType, load_knobs, shipped_versions
from tuner.space.knobs.words import KNOBS
from tuner.space.other_tiers import OTHER_TIERS

OTHERS = (EngineKind.SGLANG, EngineKind.TENSORRT_LLM, EngineKind.TGI, EngineKind.LLAMA_CPP)
CLAP = """Options:
      --quantize <QUANTIZE>
          How the weights are kept
          [env: QUANTIZE=]

          Possible values:
          - awq:      four bits
          - fp8:      eight
      --sharded <SHARDED>
          [env: SHARDED=]
          [possible values: true, false]
  -p, --port <PORT>
          [default: 3000]
      --cuda-memory-fraction <F>
          [default: 1.0]
      --json-output
          In JSON
"""
CLICK = """Options:
  --backend [pytorch|tensorrt]    Which of them
  --tensor_parallel_size, --tp_size INTEGER
                                  How many  [default: 1]
  --free_fraction FLOAT           How much  [default: 0.9]
  --trust_remote_code             Run its code
"""
LLAMA = """----- common params -----

-h,    --help, --usage                  print usage and exit
-t,    --threads N                      how many (default: -1)
                                        (env: LLAMA_ARG_THREADS)
--temp, --temperature N                 how wild (default: 0.80)
-ctk,  --cache-type-k TYPE              of what
                                        (default: f16)
-fa,   --flash-attn [on|off|auto]       whether
--poll-batch <0|1>                      whether (default: same as --poll)
--mmap, --no-mmap                       whether (default: enabled)
--draft-min N                           the argument has been removed. use another
"""
FIELDS = """
class Schedule:
    tp_size: A[int, Arg(help="how many", aliases=["--tensor-parallel-size"])] = 1
    max_running_requests: A[Optional[int], "how many"] = None
    max_total_tokens: A[Optional[int], Arg(help="", type_parser=human_readable_int)] = None
    policy: A[str, Arg(choices=POLICIES)] = "fcfs"
    disable_radix_cache: A[bool, "whether"] = False
    sizes: A[Optional[List[int]], "which"] = None
    inner: A[int, Arg(no_cli=True)] = 1
"""
SERVER_ARGS = """
class ServerArgs:
    def add_cli_args(parser):
        parser.add_argument("--mem-fraction", type=float, default=ServerArgs.mem_fraction)
        parser.add_argument("--enable-mixed", action="store_true")
"""


def options(kind: EngineKind, **changes: str) -> EngineOptions:
    return EngineOptions.model_validate({"kind": kind, **changes})


@pytest.mark.parametrize("kind", OTHERS)
def test_a_flag_file_ships_and_knows_what_the_driver_and_the_search_write(kind: EngineKind) -> None:
    driver = driver_of(kind)
    assert driver.flag_files is not None
    schema = load_knobs(engine=driver.flag_files)
    written = {driver.name_flag, driver.key_flag, driver.drain_flag, *driver.always, *OTHER_TIERS[kind], *driver.owned}
    assert [name for name in written - {None} if schema.find(str(name)) is None] == []
    assert [name for words in KNOBS.values() for name in words.get(kind, ()) if schema.find(name) is None] == []
    assert all(canonical_flag(name) == name for name in schema.flags)
    assert schema.engine == driver.flag_files


@pytest.mark.parametrize("engine", ENGINES)
def test_no_engine_has_a_flag_that_names_an_alternative(engine: str) -> None:
    assert all(load_knobs(version, engine).find(ENGINE) is None for version in shipped_versions(engine))


@pytest.mark.parametrize("kind", OTHERS)
def test_what_the_search_tries_by_default_is_taken(kind: EngineKind) -> None:
    for flag, knob in OTHER_TIERS[kind].items():
        for value in knob.choices or ():
            assert value is not None
            check_flags(EngineConfig(flags={flag: value}), options(kind))


@pytest.mark.parametrize(
    ("kind", "flag", "value", "says"),
    [
        ("sglang", "schedule-policy", "fastest", r"SGLang 0\.5\.23 cannot.*is not one of .*fcfs"),
        ("sglang", "max-running-request", 8, "did you mean --max-running-requests"),
        ("sglang", "grpc-mode", True, "not yours to set: Fleetune speaks to engines over HTTP"),
        ("tensorrt-llm", "max-batch-size", "many", "is not of type int"),
        ("tensorrt-llm", "server-role", "context", "not yours to set"),
        ("tgi", "quantize", "q4", "is not one of awq"),
        ("tgi", "sharded", "true", "tensor-parallel-size says how many GPUs"),
        ("llama.cpp", "flash-attn", "maybe", "is not one of on, off, auto"),
        ("llama.cpp", "mmap", 3, "is not of type bool"),
        ("llama.cpp", "hf-repo", "a/b", r"it is model\.path"),
        ("llama.cpp", "api-key", "a b", "LLAMA_API_KEY in engine.env"),
    ],
)
def test_what_the_engine_would_refuse_is_refused_at_registration(
    kind: str, flag: str, value: FlagValue, says: str
) -> None:
    with pytest.raises(InvalidInput, match=says):
        check_flags(EngineConfig(flags={flag: value}), options(EngineKind(kind)))


@pytest.mark.parametrize(
    ("kind", "flags", "gpus"),
    [
        (EngineKind.SGLANG, {"tp-size": 2, "dp-size": 2, "pp-size": 2}, 8),
        (EngineKind.SGLANG, {"tp": 4, "dp": 4, "enable-dp-attention": True}, 4),
        (EngineKind.TENSORRT_LLM, {"tp_size": 2, "cp_size": 2}, 4),
        (EngineKind.TGI, {"num-shard": 2}, 2),
        (EngineKind.LLAMA_CPP, {"tensor-split": "1,1"}, 2),
        (EngineKind.LLAMA_CPP, {"threads": 4}, 1),
    ],
)
def test_gpus_per_replica_follow_from_the_parallel_flags(
    kind: EngineKind, flags: dict[str, FlagValue], gpus: int
) -> None:
    config = EngineConfig.model_validate({"flags": flags})
    check_flags(config, options(kind))
    assert config.gpus_per_replica == gpus


def test_a_version_is_checked_against_what_ships_and_a_build_counts_as_one() -> None:
    assert shipped_versions("llama.cpp") == ("0.10434",)
    assert load_knobs("b10434", "llama.cpp").version == "b10434"
    with pytest.raises(InvalidInput, match=r"flags of sglang 0\.4 are not known.*older"):
        load_knobs("0.4", "sglang")


def made(tmp_path: Path, text: str, engine: str) -> KnobSchema:
    path = tmp_path / "help.txt"
    path.write_text(text)
    schema = extract(path, engine, version="9.9")
    assert KnobSchema.model_validate_json(as_json(schema)) == schema
    return schema


def test_claps_help_is_read(tmp_path: Path) -> None:
    flags = made(tmp_path, CLAP, "tgi").flags
    assert flags["quantize"].choices == ("awq", "fp8")
    assert flags["sharded"].choices == ("true", "false")
    assert (flags["port"].type, flags["port"].default, flags["port"].aliases) == (KnobType.INT, 3000, ("p",))
    assert flags["cuda-memory-fraction"].type is KnobType.FLOAT
    assert flags["json-output"].type is KnobType.SWITCH


def test_clicks_help_is_read(tmp_path: Path) -> None:
    flags = made(tmp_path, CLICK, "tensorrt-llm").flags
    assert flags["backend"].choices == ("pytorch", "tensorrt")
    assert (flags["tensor-parallel-size"].type, flags["tensor-parallel-size"].default) == (KnobType.INT, 1)
    assert flags["free-fraction"].default == 0.9
    assert flags["trust-remote-code"].type is KnobType.SWITCH


def test_llama_cpps_help_is_read(tmp_path: Path) -> None:
    schema = made(tmp_path, LLAMA, "llama.cpp")
    assert set(schema.flags) == {
        *("threads", "temperature", "cache-type-k", "flash-attn", "poll-batch", "mmap"),
    }
    assert schema.find("temp") == schema.flags["temperature"]
    assert (schema.flags["threads"].type, schema.flags["threads"].default) == (KnobType.INT, -1)
    assert schema.flags["poll-batch"].choices == (0, 1)
    assert schema.flags["mmap"].type is KnobType.BOOL
    assert schema.flags["cache-type-k"].default == "f16"


def an_sglang(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("sglang-9.9.1.dist-info/METADATA", "")
        wheel.writestr("sglang/srt/server_args.py", SERVER_ARGS)
        wheel.writestr("sglang/srt/arg_groups/choices.py", 'POLICIES = ["fcfs", "lpm"]\n')
        wheel.writestr("sglang/srt/arg_groups/fields/schedule.py", FIELDS)
    return path


def test_sglangs_sources_are_read_without_importing_them(tmp_path: Path) -> None:
    schema = extract(an_sglang(tmp_path / "sglang.whl"), "sglang")
    flags = schema.flags
    assert schema.version == "9.9.1"
    assert (flags["tensor-parallel-size"].default, flags["tensor-parallel-size"].aliases) == (1, ("tp-size",))
    assert (flags["max-running-requests"].type, flags["max-running-requests"].optional) == (KnobType.INT, True)
    assert flags["max-total-tokens"].human_int
    assert flags["policy"].choices == ("fcfs", "lpm")
    assert flags["disable-radix-cache"].type is KnobType.SWITCH
    assert flags["sizes"].many
    assert flags["mem-fraction"].type is KnobType.FLOAT
    assert flags["enable-mixed"].type is KnobType.SWITCH
    assert "inner" not in flags


def test_a_flag_file_of_another_engine_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "flags.json"
    path.write_text(as_json(extract(an_sglang(tmp_path / "sglang.whl"), "sglang")))
    check_flags(EngineConfig(flags={"policy": "lpm"}), options(EngineKind.SGLANG, flag_file=str(path)))
    with pytest.raises(InvalidInput, match=r"is of sglang.*one of TGI"):
        check_flags(EngineConfig(), options(EngineKind.TGI, flag_file=str(path)))


@pytest.mark.parametrize("engine", [name for name in ENGINES if name not in ("vllm", "sglang")])
def test_a_folder_is_no_help_text(tmp_path: Path, engine: str) -> None:
    with pytest.raises(InvalidInput, match=r"is a folder.*the saved output of"):
        extract(tmp_path, engine)


def test_an_unknown_engine_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"no flag file can be made of lmdeploy.*vllm, sglang"):
        extract(tmp_path, "lmdeploy")
