"""Texts as tensors: what a request asks of a completion, and how its answer goes back."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from hypothesis import given
from hypothesis import strategies as st

from controlplane.gateway.kserve import tensors
from controlplane.gateway.kserve.compiling import compiled
from controlplane.gateway.kserve.messages import DESCRIPTORS, InferRequest
from controlplane.gateway.openai_errors import RequestRefused


def request(text: str = "hi", **changes: Any) -> Any:
    made = InferRequest(model_name="m", id="7", **changes)
    tensor = made.inputs.add(name="text_input", datatype="BYTES", shape=[1])
    tensor.contents.bytes_contents.append(text.encode())
    return made


def flagged(name: str, value: bool = True, **changes: Any) -> Any:
    made = request(**changes)
    made.inputs.add(name=name, datatype="BOOL", shape=[1]).contents.bool_contents.append(value)
    return made


def sampled(given: bytes) -> Any:
    made = request()
    made.inputs.add(name="sampling_parameters", datatype="BYTES", shape=[1]).contents.bytes_contents.append(given)
    return made


def raw(*elements: bytes, text: bytes = b"hi") -> Any:
    made = InferRequest(model_name="m")
    made.inputs.add(name="text_input", datatype="BYTES", shape=[1, 1])
    made.raw_input_contents.append(struct.pack("<I", len(text)) + text)
    for name, element in zip(("stream",), elements, strict=False):
        made.inputs.add(name=name, datatype="BOOL", shape=[1])
        made.raw_input_contents.append(element)
    return made


def texts(response: Any) -> list[bytes]:
    return list(response.outputs[0].contents.bytes_contents)


def test_the_descriptors_are_those_of_the_protocol() -> None:
    """Else: python -m controlplane.gateway.kserve.compiling"""
    parsed = descriptor_pb2.FileDescriptorSet.FromString
    assert parsed(DESCRIPTORS.read_bytes()) == parsed(compiled())


def test_a_text_is_the_prompt_and_parameters_are_its_fields() -> None:
    asked = request("wörld")
    asked.parameters["max_tokens"].int64_param = 5
    asked.parameters["temperature"].double_param = 0.5
    asked.parameters["triton_enable_empty_final_response"].bool_param = True
    found = tensors.read(asked)
    assert found.fields == {"model": "m", "prompt": "wörld", "stream": False, "max_tokens": 5, "temperature": 0.5}
    assert found.outputs == frozenset()


def test_sampling_parameters_go_before_single_ones() -> None:
    asked = sampled(json.dumps({"max_tokens": 3, "stop": ["x"]}).encode())
    asked.parameters["max_tokens"].int64_param = 9
    fields = tensors.read(asked).fields
    assert (fields["max_tokens"], fields["stop"]) == (3, ["x"])


def test_raw_elements_are_read_and_answered_raw() -> None:
    asked = raw(b"\x01")
    assert tensors.read(asked).fields == {"model": "m", "prompt": "hi", "stream": True}
    answer = {"choices": [{"text": "aé"}]}
    response = tensors.whole(asked, tensors.read(raw()), answer, "rev-a")
    assert list(response.raw_output_contents) == [struct.pack("<I", 3) + "aé".encode()]
    assert list(response.outputs[0].contents.bytes_contents) == []


def test_an_answer_has_every_choice_and_what_else_was_wanted() -> None:
    asked = flagged("return_finish_reason")
    asked.outputs.add(name="text_output")
    asked.outputs.add(name="num_output_tokens")
    answer = {
        "choices": [{"text": "a", "finish_reason": "stop"}, {"text": "b", "finish_reason": "length"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2},
    }
    response = tensors.whole(asked, tensors.read(asked), answer, "rev-a")
    assert (response.model_name, response.model_version, response.id) == ("m", "rev-a", "7")
    assert [tensor.name for tensor in response.outputs] == ["text_output", "finish_reason", "num_output_tokens"]
    assert texts(response) == [b"a", b"b"]
    assert list(response.outputs[0].shape) == [2]
    assert list(response.outputs[1].contents.bytes_contents) == [b"stop", b"length"]
    assert list(response.outputs[2].contents.uint_contents) == [2]


def test_a_stream_says_which_response_is_the_last_and_counts_there() -> None:
    asked = flagged("stream")
    asked.outputs.add(name="num_input_tokens")
    found = tensors.read(asked)
    assert found.fields["stream_options"] == {"include_usage": True}
    event = {"choices": [{"text": "a", "finish_reason": None}]}
    piece = tensors.piece(asked, found, event, "rev-a")
    assert piece is not None
    assert (texts(piece), piece.parameters["triton_final_response"].bool_param) == ([b"a"], False)
    assert tensors.piece(asked, found, {"choices": [], "usage": {}}, "rev-a") is None
    last = tensors.last(asked, found, {"prompt_tokens": 4}, "rev-a")
    assert [(each.name, list(each.contents.uint_contents)) for each in last.outputs] == [("num_input_tokens", [4])]
    assert last.parameters["triton_final_response"].bool_param


def without_text() -> Any:
    return InferRequest(model_name="m")


def shaped(*shape: int, datatype: str = "BYTES", name: str = "text_input") -> Any:
    made = InferRequest(model_name="m")
    made.inputs.add(name=name, datatype=datatype, shape=shape).contents.bytes_contents.append(b"x")
    return made


def short_raw() -> Any:
    made = raw()
    made.raw_input_contents[0] = made.raw_input_contents[0][:-1]
    return made


def uneven_raw() -> Any:
    made = raw()
    made.raw_input_contents.append(b"")
    return made


def named(parameter: str) -> Any:
    made = request()
    made.parameters[parameter].string_param = "x"
    return made


def wanting(output: str) -> Any:
    made = request()
    made.outputs.add(name=output)
    return made


def many_streams() -> Any:
    made = flagged("stream")
    made.parameters["n"].int64_param = 2
    return made


def not_text() -> Any:
    made = request()
    made.inputs[0].contents.bytes_contents[0] = b"\xff"
    return made


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        (without_text(), "text_input"),
        (shaped(2), "text_input"),
        (shaped(1, datatype="INT64"), "text_input"),
        (shaped(1, name="image"), "image"),
        (short_raw(), "text_input"),
        (uneven_raw(), "raw_input_contents"),
        (not_text(), "text_input"),
        (sampled(b"[1]"), "sampling_parameters"),
        (sampled(b"{"), "sampling_parameters"),
        (sampled(b'{"stop": "' + b"x" * (64 << 10) + b'"}'), "sampling_parameters"),
        (sampled(b'{"model": "other"}'), "model"),
        (named("prompt"), "prompt"),
        (wanting("logprobs"), "logprobs"),
        (many_streams(), "n"),
        (flagged("exclude_input_in_output", False), "exclude_input_in_output"),
        (request(model_version="2"), "model_version"),
    ],
)
def test_what_cannot_be_asked_is_named(asked: Any, param: str) -> None:
    with pytest.raises(RequestRefused) as raised:
        tensors.read(asked)
    assert (raised.value.status, raised.value.param) == (400, param)


@st.composite
def requests(draw: st.DrawFn) -> Any:
    """Requests that are well-formed as messages and odd in everything else."""
    made = InferRequest(model_name=draw(st.sampled_from(["", "m"])))
    for name in draw(st.lists(st.sampled_from([*tensors.INPUTS, "other", ""]), max_size=4)):
        datatype = draw(st.sampled_from(["BYTES", "BOOL", "INT64", ""]))
        tensor = made.inputs.add(name=name, datatype=datatype, shape=draw(st.lists(st.integers(-1, 2), max_size=2)))
        tensor.contents.bytes_contents.extend(draw(st.lists(st.binary(max_size=9), max_size=2)))
        tensor.contents.bool_contents.extend(draw(st.lists(st.booleans(), max_size=2)))
    if draw(st.booleans()):
        made.raw_input_contents.extend(draw(st.lists(st.binary(max_size=9), max_size=4)))
    for name in draw(st.lists(st.sampled_from(["n", "stop", "triton_x", "prompt"]), max_size=2)):
        made.parameters[name].double_param = draw(st.floats())
    made.parameters["empty"].Clear()
    return made


@given(requests())
def test_whatever_comes_is_read_or_refused(asked: Any) -> None:
    assert outcome(asked) == 400 or isinstance(outcome(asked), str)


def outcome(asked: Any) -> str | int:
    """Return the prompt, or the status of what was refused."""
    try:
        return str(tensors.read(asked).fields["prompt"])
    except RequestRefused as refusal:
        return refusal.status
