"""Texts as tensors, by the names that Triton's vLLM backend has: a request as the body of a completion, and back. Pure.

Inputs `text_input` (BYTES), `stream` (BOOL), `sampling_parameters` (BYTES, a JSON object), and which outputs are wanted
beside `text_output`. Elements come as contents or raw; they go back the way they came.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from controlplane.gateway.kserve.messages import InferResponse
from controlplane.gateway.openai_errors import RequestRefused
from controlplane.gateway.sse import token_counts

TEXT = "text_output"
REASON = "finish_reason"
PROMPT_TOKENS = "num_input_tokens"
ANSWER_TOKENS = "num_output_tokens"

FINAL = "triton_final_response"

INPUTS: Mapping[str, str] = {
    "text_input": "BYTES",
    "stream": "BOOL",
    "sampling_parameters": "BYTES",
    "exclude_input_in_output": "BOOL",
    "return_finish_reason": "BOOL",
    "return_num_input_tokens": "BOOL",
    "return_num_output_tokens": "BOOL",
}
OUTPUTS: Mapping[str, str] = {TEXT: "BYTES", REASON: "BYTES", PROMPT_TOKENS: "UINT32", ANSWER_TOKENS: "UINT32"}

_OURS = frozenset({"model", "prompt", "stream", "stream_options"})
_CLIENTS_OWN = "triton_"  # parameters that Triton's clients send to Triton itself

_UINT32 = 1 << 32
_LARGEST_SAMPLING_BYTES = 64 << 10  # it is parsed on the event loop

Element = bytes | bool


class Asked(NamedTuple):
    """What one request asks: the fields of its completion, and the outputs beside the text."""

    fields: dict[str, Any]
    outputs: frozenset[str]

    @property
    def stream(self) -> bool:
        return bool(self.fields["stream"])

    @property
    def counts(self) -> bool:
        """Say whether numbers of tokens are wanted: an engine names them in a stream only where it is told to."""
        return bool(self.outputs & {PROMPT_TOKENS, ANSWER_TOKENS})


def read(request: Any) -> Asked:
    """Return what a ModelInferRequest asks. Raises RequestRefused (400)."""
    if request.model_version:
        raise _wrong("model_version", "which revision answers is the gateway's to choose: leave it empty")
    given = _elements(request)
    text = given.get("text_input")
    if not isinstance(text, bytes):
        raise _wrong("text_input", "a BYTES tensor of one element is needed")
    if given.get("exclude_input_in_output") is False:
        raise _wrong("exclude_input_in_output", "answers never repeat the text they are to: true, or leave it out")
    fields = _parameters(request.parameters) | _sampling(given.get("sampling_parameters"))
    fields |= {"model": request.model_name, "prompt": _text(text, "text_input"), "stream": bool(given.get("stream"))}
    asked = Asked(fields, _outputs(request, given))
    if asked.stream and fields.get("n") not in (None, 1):
        raise _wrong("n", "a stream has one answer")
    if asked.stream and asked.counts:
        fields["stream_options"] = {"include_usage": True}
    return asked


def whole(request: Any, asked: Asked, answer: Mapping[str, Any], revision: str) -> Any:
    """Return the ModelInferResponse of a completion in one piece."""
    choices = answer.get("choices") or []
    return _response(request, asked, choices, answer.get("usage") or {}, revision)


def piece(request: Any, asked: Asked, event: Mapping[str, Any], revision: str) -> Any | None:
    """Return the ModelInferResponse of one event of a stream, None for one without text."""
    choices = event.get("choices") or []
    return _response(request, asked, choices, {}, revision, final=False) if choices else None


def last(request: Any, asked: Asked, usage: Mapping[str, Any], revision: str) -> Any:
    """Return the ModelInferResponse that ends a stream: without text, with what was counted."""
    return _response(request, asked, [], usage, revision, final=True)


def _elements(request: Any) -> dict[str, Element]:
    """Return the one element of each input. Raises RequestRefused (400) for an input that is not known."""
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise _wrong("raw_input_contents", "one for each input is needed, or none")
    return {tensor.name: _element(tensor, raw[place] if raw else None) for place, tensor in enumerate(request.inputs)}


def _element(tensor: Any, raw: bytes | None) -> Element:
    kind = INPUTS.get(tensor.name)
    if kind is None:
        raise _wrong(tensor.name[:64], f"no such input; there are {', '.join(INPUTS)}")
    if tensor.datatype != kind or any(size != 1 for size in tensor.shape):
        raise _wrong(tensor.name, f"a {kind} tensor of one element is needed")
    contents = tensor.contents.bytes_contents if kind == "BYTES" else tensor.contents.bool_contents
    found: Sequence[Element] = contents if raw is None else _unpacked(raw, kind)
    if len(found) != 1:
        raise _wrong(tensor.name, f"a {kind} tensor of one element is needed")
    return found[0]


def _unpacked(raw: bytes, kind: str) -> Sequence[Element]:
    """Return the elements of raw contents: each BYTES behind its length in four bytes, each BOOL one byte."""
    if kind == "BOOL":
        return [bool(each) for each in raw]
    if len(raw) < 4 or len(raw) != 4 + struct.unpack_from("<I", raw)[0]:
        return []
    return [raw[4:]]


def _parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    named = {name: value for name, value in given.items() if not name.startswith(_CLIENTS_OWN)}
    return _allowed(
        {name: getattr(value, value.WhichOneof("parameter_choice") or "", None) for name, value in named.items()}
    )


def _sampling(given: Element | None) -> dict[str, Any]:
    if not isinstance(given, bytes) or not given:
        return {}
    if len(given) > _LARGEST_SAMPLING_BYTES:
        raise _wrong("sampling_parameters", f"at most {_LARGEST_SAMPLING_BYTES} bytes")
    try:
        fields = json.loads(given)
    except (ValueError, RecursionError) as error:
        raise _wrong("sampling_parameters", "a JSON object is needed") from error
    if not isinstance(fields, dict):
        raise _wrong("sampling_parameters", "a JSON object is needed")
    return _allowed(fields)


def _allowed(fields: dict[str, Any]) -> dict[str, Any]:
    ours = _OURS & fields.keys()
    if ours:
        raise _wrong(min(ours), "the protocol has a place of its own for it")
    return fields


def _outputs(request: Any, given: Mapping[str, Element]) -> frozenset[str]:
    named = {tensor.name for tensor in request.outputs}
    unknown = named - OUTPUTS.keys()
    if unknown:
        raise _wrong(min(unknown)[:64], f"no such output; there are {', '.join(OUTPUTS)}")
    return frozenset(named | {output for output in OUTPUTS if given.get(f"return_{output}")}) - {TEXT}


def _response(
    request: Any,
    asked: Asked,
    choices: Sequence[Mapping[str, Any]],
    usage: Mapping[str, Any],
    revision: str,
    *,
    final: bool | None = None,
) -> Any:
    """Return a response; `final` says whether a stream ends with it, None that it is no stream's."""
    response = InferResponse(model_name=request.model_name, model_version=revision, id=request.id)
    raw = bool(request.raw_input_contents)
    counts = {name: count for name, count in token_counts(usage).items() if count < _UINT32}
    if choices:
        _add(response, TEXT, [str(each.get("text") or "").encode("utf-8", "replace") for each in choices], raw=raw)
        if REASON in asked.outputs:
            _add(response, REASON, [str(each.get("finish_reason") or "").encode() for each in choices], raw=raw)
    for output, counted in ((PROMPT_TOKENS, "prompt_tokens"), (ANSWER_TOKENS, "completion_tokens")):
        if output in asked.outputs and counted in counts:
            _add(response, output, [counts[counted]], raw=raw)
    if final is not None:
        response.parameters[FINAL].bool_param = final
    return response


def _add(response: Any, name: str, elements: Sequence[bytes | int], *, raw: bool) -> None:
    tensor = response.outputs.add(name=name, datatype=OUTPUTS[name], shape=[len(elements)])
    if raw:
        response.raw_output_contents.append(b"".join(map(_packed, elements)))
    elif OUTPUTS[name] == "BYTES":
        tensor.contents.bytes_contents.extend(elements)
    else:
        tensor.contents.uint_contents.extend(elements)


def _packed(element: bytes | int) -> bytes:
    return struct.pack("<I", element) if isinstance(element, int) else struct.pack("<I", len(element)) + element


def _text(given: bytes, name: str) -> str:
    try:
        return given.decode()
    except UnicodeDecodeError as error:
        raise _wrong(name, "UTF-8 is needed") from error


def _wrong(name: str, why: str) -> RequestRefused:
    return RequestRefused(400, f"`{name}`: {why}.", code="invalid_tensor", param=name)
