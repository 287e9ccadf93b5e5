"""Flags however a person writes them are one engine, and the words an engine gets are those vLLM's parser takes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from controlplane.domain.engines.engine import EngineConfig, EngineKind
from controlplane.domain.engines.flags import ALIASES, HUMAN, SEVERAL, canonical_flags
from controlplane.domain.errors import InvalidInput
from controlplane.domain.service import EngineOptions
from controlplane.emulator.flags import parse_command_line
from tuner.space.knobs.checks import check_flags
from tuner.space.knobs.schema import KnobType, load_knobs, shipped_versions

SCHEMAS = [load_knobs(version) for version in shipped_versions()]
FLAGS = {name: flag for schema in SCHEMAS for name, flag in schema.flags.items()}


def config(**flags: Any) -> EngineConfig:
    return EngineConfig.model_validate({"flags": {name.replace("__", "."): value for name, value in flags.items()}})


def refused(**flags: Any) -> str:
    with pytest.raises(InvalidInput) as error:
        check_flags(config(**flags), EngineOptions(kind=EngineKind.VLLM))
    return str(error.value)


def as_vllm_reads(found: EngineConfig) -> EngineConfig:
    return parse_command_line(["m", *found.to_args()], visible_devices=None).config


def test_the_names_are_those_of_the_flag_files_that_ship() -> None:
    sglang = load_knobs(engine="sglang").flags
    assert {name for flags in (FLAGS, sglang) for name, flag in flags.items() if flag.many} == SEVERAL
    assert {name for name, flag in FLAGS.items() if flag.human_int} == HUMAN
    assert {short: name for name, flag in FLAGS.items() for short in flag.aliases} | {
        "O": "optimization-level"
    } == ALIASES
    assert not [name for name in FLAGS if name.startswith("no-")]


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ({"tp": 2}, {"tensor-parallel-size": 2}),
        ({"-tp": 2}, {"tensor-parallel-size": 2}),
        ({"--tensor_parallel_size": 2}, {"tensor-parallel-size": 2}),
        ({"q": "fp8"}, {"quantization": "fp8"}),
        ({"-O3": True}, {"optimization-level": 3}),
        ({"O": 2}, {"optimization-level": 2}),
        ({"no-enable-prefix-caching": True}, {"enable-prefix-caching": False}),
        ({"no_enable_prefix_caching": False}, {"enable-prefix-caching": True}),
        ({"max-model-len": "32k"}, {"max-model-len": 32000}),
        ({"max-model-len": "8K"}, {"max-model-len": 8192}),
        ({"max-model-len": "-1"}, {"max-model-len": -1}),
        ({"max-model-len": "auto"}, {"max-model-len": "auto"}),
        ({"cudagraph-capture-sizes": [1, 2, 4]}, {"cudagraph-capture-sizes": "1 2 4"}),
        ({"cudagraph-capture-sizes": " 1  2 4"}, {"cudagraph-capture-sizes": "1 2 4"}),
        ({"lora-modules": ["a=/x y", "b=/z"]}, {"lora-modules": "'a=/x y' b=/z"}),
        ({"speculative-config": {"method": "ngram"}}, {"speculative-config": '{"method": "ngram"}'}),
        ({"cc.cudagraph_mode": "FULL"}, {"compilation-config.cudagraph_mode": "FULL"}),
    ],
)
def test_a_flag_is_kept_in_one_form_however_it_was_written(written: dict[str, Any], kept: dict[str, Any]) -> None:
    assert canonical_flags(written) == kept
    assert canonical_flags(kept) == kept


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"tp": 2}, ("--tensor-parallel-size=2",)),
        ({"cudagraph-capture-sizes": [1, 2]}, ("--cudagraph-capture-sizes", "1", "2")),
        ({"lora-modules": ["a=/x y"]}, ("--lora-modules", "a=/x y")),
        ({"config": "/etc/vllm.yaml"}, ("--config", "/etc/vllm.yaml")),
        ({"enable-prefix-caching": False}, ("--no-enable-prefix-caching",)),
    ],
)
def test_an_engine_gets_the_words_its_parser_takes(flags: dict[str, Any], words: tuple[str, ...]) -> None:
    assert EngineConfig.model_validate({"flags": flags}).to_args() == words


@pytest.mark.parametrize(
    "flags",
    [
        {"tp": 2, "dp": 2},
        {"cudagraph-capture-sizes": [1, 2, 4]},
        {"lora-modules": ["a=/with space", 'b={"x": "y z"}']},
        {"speculative-config": {"method": "ngram", "num_speculative_tokens": 3}},
        {"max-model-len": "32k", "max-num-batched-tokens": "2K"},
        {"enable-prefix-caching": False, "enforce-eager": True},
    ],
)
def test_vllms_parser_reads_back_what_was_meant(flags: dict[str, Any]) -> None:
    meant = EngineConfig.model_validate({"flags": flags})
    assert as_vllm_reads(meant) == meant


def test_dotted_parts_are_one_json_value_to_the_engine() -> None:
    read = as_vllm_reads(config(**{"compilation-config__mode": 3, "cc__pass_config.fuse": True}))
    assert json.loads(str(read.flags["compilation-config"])) == {"mode": 3, "pass_config": {"fuse": True}}


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1), min_size=1, max_size=4))
def test_any_list_of_texts_reaches_the_engine_word_by_word(values: list[str]) -> None:
    assert config(**{"lora-modules": values}).to_args() == ("--lora-modules", *values)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"tp": 2, "tensor-parallel-size": 4}, "--tensor-parallel-size is given twice, as tp and as"),
        ({"max_num_seqs": 2, "max-num-seqs": 4}, "given twice"),
        ({"enable-prefix-caching": True, "no-enable-prefix-caching": True}, "given twice"),
        ({"lora-modules": "a='b"}, "not a list of words"),
        ({"cudagraph-capture-sizes": [True]}, "neither text nor a number"),
        ({"max-num-seqs": None}, "has no value"),
    ],
)
def test_what_can_mean_nothing_is_refused_in_words(flags: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        EngineConfig.model_validate({"flags": flags})


@pytest.mark.parametrize(
    ("flags", "gpus"),
    [({}, 1), ({"dp": 2}, 2), ({"tp": 2, "dp": 4}, 8), ({"tp": 2, "pp": 2, "pcp": 2}, 8), ({"dcp": 2}, 1)],
)
def test_every_parallel_size_with_gpus_of_its_own_is_counted(flags: dict[str, int], gpus: int) -> None:
    assert config(**flags).gpus_per_replica == gpus


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"port": 46999}, "Fleetune chooses where"),
        ({"host": "0.0.0.0"}, "Fleetune chooses where"),
        ({"served_model_name": "other"}, "model.name"),
        ({"uds": "/run/x"}, "over TCP"),
        ({"headless": True}, "cannot be reached"),
        ({"ssl-keyfile": "/k"}, "plain HTTP"),
        ({"api-key": ""}, "one key, not empty"),
        ({"api-key": ["k1", "k2"]}, "one key, not empty"),
        ({"speculative-config": "{method: ngram}"}, "not of type json"),
        ({"max-num-seqs__x": 1}, "there is no --max-num-seqs.x"),
    ],
)
def test_what_would_take_an_engine_out_of_reach_or_stop_it_is_refused(flags: dict[str, Any], says: str) -> None:
    assert says in refused(**flags)


def test_no_message_repeats_a_key() -> None:
    assert "planted" not in refused(**{"api-key": "planted-1 planted-2"})


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.version)
def test_defaults_of_every_json_flag_are_taken(schema: Any) -> None:
    known = [
        (name, flag) for name, flag in schema.flags.items() if flag.type is KnobType.JSON and flag.default is not None
    ]
    for name, flag in known:
        check_flags(config(**{name: flag.default}), EngineOptions(kind=EngineKind.VLLM, version=schema.version))
