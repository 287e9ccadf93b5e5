"""A space over several engines: what a point of it is, and what of each engine reaches its command line."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.domain.engines.engine import ENGINE, EngineConfig
from controlplane.domain.errors import InvalidInput
from controlplane.domain.service import ServiceSpec
from controlplane.services.studies.search import feasible_points
from tests.builders_serving import a_spec
from tuner.answer.plan import plan_of
from tuner.space.first_tier import is_lossy, space_for
from tuner.space.space import Space

SGLANG = {"kind": "sglang", "flags": {"mem-fraction-static": 0.85}}
KNOBS: dict[str, dict[str, list[Any]]] = {
    "vllm": {"max-num-seqs": [64, 128, 256], "kv-cache-dtype": ["auto", "fp8"]},
    "sglang": {"max-running-requests": [64, 128], "kv-cache-dtype": ["auto", "fp8_e5m2"]},
}
names = st.sampled_from(["sglang", "awq", "tgi"])


def knobs(given: dict[str, list[Any]]) -> dict[str, Any]:
    return {flag: {"choices": choices} for flag, choices in given.items()}


def spec_of(alternatives: dict[str, Any], *, space: dict[str, Any] | None = None) -> ServiceSpec:
    raw = a_spec().model_dump(mode="json") | {"alternatives": alternatives}
    raw["engine"] = {"kind": "vllm", "flags": {"max-num-seqs": 128}}
    raw["tuning"]["space"] = knobs(KNOBS["vllm"]) if space is None else space
    return ServiceSpec.model_validate(raw)


def two() -> ServiceSpec:
    return spec_of({"sglang": {"engine": SGLANG, "space": knobs(KNOBS["sglang"])}})


def test_every_engine_is_tried_with_its_own_flags_and_no_others() -> None:
    spec = two()
    space = space_for(spec, spec.baseline)
    assert space.size == 3 * 2 + 3 * 2  # SGLang's own default is a value too
    configs = [space.config(point) for point in space.points()]
    assert len({config.content_hash() for config in configs}) == 12
    for config in configs:
        foreign = "max-num-seqs" if config.alternative == "sglang" else "mem-fraction-static"
        assert foreign not in config.flags
    assert {config.alternative for config in configs} == {None, "sglang"}
    assert all(c.flags["mem-fraction-static"] == 0.85 for c in configs if c.alternative == "sglang")


def test_a_flag_of_one_name_has_each_engines_own_values() -> None:
    spec = two()
    space = space_for(spec, spec.baseline)
    found = {(c.alternative, c.flags.get("kv-cache-dtype")) for c in map(space.config, space.points())}
    assert found == {(None, None), (None, "fp8"), ("sglang", None), ("sglang", "fp8_e5m2")}


def test_the_baseline_is_named_as_it_always_was() -> None:
    spec = two()
    space = space_for(spec, spec.baseline)
    assert space.config(space.point(spec.baseline)) == spec.baseline
    assert ENGINE not in spec.baseline.flags


def test_a_baseline_that_an_alternative_serves_is_a_point_too() -> None:
    spec = two()
    stable = EngineConfig(flags={ENGINE: "sglang", "max-running-requests": 96, "mem-fraction-static": 0.9})
    space = space_for(spec, stable)
    assert space.config(space.point(stable)) == stable
    assert any(point[ENGINE] == "vllm" for point in space.points())


@given(
    engines=st.lists(names, unique=True, min_size=1, max_size=3),
    own=st.lists(st.sampled_from([16, 32, 64, 256]), unique=True, min_size=1),
    theirs=st.lists(st.sampled_from([2048, 4096, 8192]), unique=True, min_size=1),
)
@settings(max_examples=40, deadline=None)
def test_a_point_and_its_configuration_say_the_same_whatever_is_tried(
    engines: list[str], own: list[int], theirs: list[int]
) -> None:
    described: dict[str, Any] = {
        "sglang": {"engine": SGLANG, "space": knobs({"chunked-prefill-size": theirs})},
        "awq": {"path": "/models/awq"},
        "tgi": {"engine": {"kind": "tgi"}, "space": knobs({"max-batch-prefill-tokens": theirs})},
    }
    spec = spec_of({name: described[name] for name in engines}, space=knobs({"max-num-seqs": own}))
    space = space_for(spec, spec.baseline)
    points = list(space.points())
    assert len({tuple(point.values()) for point in points}) == len(points) == space.size
    for point in points:
        config = space.config(point)
        assert space.point(config) == point
        assert spec.served_by(config).engine.kind.value in ("vllm", *engines)
        active = {d.written for d in space.dimensions if point[d.flag] is not None} | {ENGINE}
        assert set(config.flags) <= active | {"max-num-seqs", "mem-fraction-static"}


def test_the_engine_may_be_narrowed_in_the_space() -> None:
    spec = spec_of(
        {"sglang": {"engine": SGLANG}, "awq": {"path": "/models/awq"}},
        space={ENGINE: {"choices": ["vllm", "awq"]}, **knobs(KNOBS["vllm"])},
    )
    assert _engines(space_for(spec, spec.baseline)) == ("vllm", "awq")


def _engines(space: Space) -> tuple[object, ...]:
    return next(d.choices for d in space.dimensions if d.flag == ENGINE)


def test_a_quantized_checkpoint_is_an_alternative_of_the_same_engine() -> None:
    spec = spec_of({"awq": {"path": "/models/awq"}, "gguf": {"engine": {"kind": "llama.cpp"}, "path": "/m.gguf"}})
    space = space_for(spec, spec.baseline)
    awq = next(c for c in map(space.config, space.points()) if c.alternative == "awq")
    served = spec.served_by(awq)
    assert (served.model.path, served.model.name, served.engine) == ("/models/awq", spec.model.name, spec.engine)
    assert is_lossy(awq, spec.baseline)
    assert {c.flags.get("max-num-seqs") for c in map(space.config, space.points()) if c.alternative == "awq"} >= {
        64,
        256,
    }


def test_what_no_engine_could_start_is_left_out_for_each_engine_by_itself() -> None:
    spec = spec_of(
        {"sglang": {"engine": SGLANG, "space": knobs({"tp-size": [1, 64]})}}, space=knobs({"max-num-seqs": [64]})
    )
    space = space_for(spec, spec.baseline)
    found = [space.config(point) for point in feasible_points(spec, space)]
    assert {c.gpus_per_replica for c in found if c.alternative == "sglang"} == {1}


def test_the_plan_says_which_engines_have_no_twin() -> None:
    note = plan_of(two()).note
    assert note is not None
    assert "SGLang has no twin: the search goes by its trials alone" in note


@pytest.mark.parametrize(
    ("alternatives", "says"),
    [
        ({"sglang": {}}, "give engine, path or both"),
        ({"vllm": {"path": "/m"}}, "vllm is what engine is called"),
        ({"a": {"engine": {"kind": "sglang", "flags": {"engine": "b"}}}}, "engine is no flag"),
        ({"a": {"engine": {"kind": "emulator", "emulator": {"time_lapse": 5}}}}, "time runs at another speed"),
    ],
)
def test_an_alternative_that_cannot_be_compared_is_refused(alternatives: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        spec_of(alternatives)


def test_flags_of_another_engine_in_an_alternatives_space_are_refused() -> None:
    spec = spec_of({"sglang": {"engine": SGLANG, "space": knobs({"max-num-seqs": [1]})}})
    with pytest.raises(InvalidInput, match="SGLang calls it --max-running-requests"):
        space_for(spec, spec.baseline)


@pytest.mark.parametrize("choices", [["tgi"], ["vllm", "tgi"]])
def test_an_engine_that_is_not_described_is_refused(choices: list[str]) -> None:
    spec = spec_of({"sglang": {"engine": SGLANG}}, space={ENGINE: {"choices": choices}})
    with pytest.raises(InvalidInput, match=r"names what is not described.*unknown: tgi.*vllm, sglang"):
        space_for(spec, spec.baseline)


def test_a_configuration_of_an_alternative_that_is_gone_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"has no alternative tgi.*sglang"):
        two().served_by(EngineConfig(flags={ENGINE: "tgi"}))
