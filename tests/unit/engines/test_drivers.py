"""What is said once of each kind of engine, and how it becomes command lines, probes and queries."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from controlplane.adapters.metrics_prometheus import queries_of
from controlplane.domain.base import EngineId
from controlplane.domain.engines.driver import EngineDriver, FlagStyle, MetricNames
from controlplane.domain.engines.drivers import driver_of, engine_key
from controlplane.domain.engines.engine import EngineConfig, EngineKind
from controlplane.domain.engines.engine_metrics import GPU_NUMBERS, EngineNumber
from controlplane.domain.engines.flags import FlagValue
from controlplane.domain.engines.fleet import EngineSpec
from controlplane.domain.engines.kinds.vllm import VLLM
from controlplane.domain.engines.spelling import spelled, spelled_text
from controlplane.domain.launch import serve_arguments, shutdown_timeout_s

WORDS = FlagStyle(joined=False, negated=False)
SNAKE = FlagStyle(underscores=True, names={"tensor-parallel-size": "tp-size"})


@pytest.mark.parametrize("kind", EngineKind)
def test_every_kind_has_a_driver_that_can_be_reached_and_written_down(kind: EngineKind) -> None:
    driver = driver_of(kind)
    assert {"{port}", "{args}"} <= set(driver.command)
    assert EngineDriver.model_validate(driver.model_dump(mode="json")) == driver


@pytest.mark.parametrize(
    ("name", "value", "style", "words"),
    [
        ("max-num-seqs", 8, FlagStyle(), ("--max-num-seqs=8",)),
        ("mmap", False, FlagStyle(), ("--no-mmap",)),
        ("mmap", False, WORDS, ()),
        ("mmap", True, WORDS, ("--mmap",)),
        ("parallel", 4, WORDS, ("--parallel", "4")),
        ("tensor-parallel-size", 2, SNAKE, ("--tp_size=2",)),
        ("max-batch-size", 64, SNAKE, ("--max_batch_size=64",)),
    ],
)
def test_a_flag_is_spelled_as_its_engine_takes_it(
    name: str, value: FlagValue, style: FlagStyle, words: tuple[str, ...]
) -> None:
    assert spelled(name, value, style) == words


@pytest.mark.parametrize("name", ["two words", "it's", "--odd"])
def test_a_served_name_stays_one_text_whatever_is_in_it(name: str) -> None:
    assert spelled_text("alias", name, WORDS) == ("--alias", name)
    spec = EngineSpec(
        engine_id=EngineId("e"),
        owner="trial/s/1",
        kind=EngineKind.VLLM,
        model="/m",
        served_name=name,
        config=EngineConfig(),
        gpus=1,
    )
    assert serve_arguments(spec) == (f"--served-model-name={name}", "--shutdown-timeout=30")
    assert shutdown_timeout_s(spec) == 30


@pytest.mark.parametrize(
    ("flags", "env", "key"),
    [
        ({}, {}, None),
        ({"api-key": "a b"}, {"VLLM_API_KEY": "c"}, "a"),
        ({}, {"VLLM_API_KEY": "c"}, "c"),
        ({}, {"LLAMA_API_KEY": "c"}, None),
    ],
)
def test_an_engines_key_stands_in_its_flags_or_its_own_variable(
    flags: dict[str, FlagValue], env: dict[str, str], key: str | None
) -> None:
    assert engine_key(VLLM, flags, env) == key


def test_a_number_that_an_engine_does_not_tell_is_not_asked_for() -> None:
    assert queries_of(MetricNames(running="x:running")) == {EngineNumber.RUNNING: "sum(x:running{model})"}
    assert set(queries_of(VLLM.metrics)) == set(EngineNumber) - set(GPU_NUMBERS)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"command": ["prog", "{args}"]}, "command lacks {port}"),
        ({"log": {"failures": [{"failure": "port", "pattern": "("}]}}, "no regular expression"),
        ({"readiness": {"health_path": "health"}}, "health_path"),
        ({"colour": "blue"}, "colour"),
    ],
)
def test_a_driver_that_cannot_work_is_refused(change: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        EngineDriver.model_validate({"title": "mine", "command": ["prog", "{port}", "{args}"]} | change)
