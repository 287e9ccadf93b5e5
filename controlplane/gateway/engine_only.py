"""What engines, and routers before them, tell each other in requests: a client that wrote it would steer the fleet.

With vLLM's `kv_transfer_params` whoever asks names the host that an engine fetches a prompt's cache from. Names are
those of vLLM 0.26 (`vllm/entrypoints/openai/chat_completion/protocol.py`, `completion/protocol.py`,
`anthropic/protocol.py`), SGLang (`srt/entrypoints/openai/protocol.py`), TensorRT-LLM (`serve/openai_protocol.py`),
llama.cpp (`tools/server/README.md`) and llm-d's routing sidecar.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controlplane.gateway.openai_errors import RequestRefused

ENGINE_ONLY_FIELDS = frozenset(
    {"kv_transfer_params", "ec_transfer_params"}  # vLLM: whose caches of prompts and pictures
    | {"bootstrap_host", "bootstrap_port", "bootstrap_room"}  # SGLang: the same
    | {"disaggregated_params"}  # TensorRT-LLM: the same
    | {"data_parallel_rank", "routed_dp_rank", "disagg_prefill_dp_rank", "id_slot"}  # which part of an engine answers
    | {"rid", "session_params"}  # SGLang's name of a request, and of a session: somebody else may have it
    | {"lora_path", "lora"}  # SGLang, llama.cpp: an adapter beside the model that the key was checked for
    | {"custom_logit_processor", "custom_labels"}  # SGLang: a program that the engine unpickles; labels of its metrics
)
"""Top-level fields of a body, on every path."""

ENGINE_ONLY_HEADERS = frozenset(
    {"x-data-parallel-rank"}  # vLLM, SGLang
    | {"x-prefiller-host-port", "x-prefiller-url", "x-encoder-hosts-ports", "x-data-parallel-host-port"}  # llm-d
    | {"x-gateway-destination-endpoint", "x-gateway-model-name"}  # Kubernetes' Gateway API Inference Extension
    | {"x-envoy-original-dst-host", "x-smg-target-worker", "x-smg-routing-key"}  # Envoy; SGLang's model gateway
    | {"forwarded", "x-real-ip", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto"}
    | {"x-forwarded-prefix"}  # uvicorn heeds those of a neighbour, which the gateway often is
)
"""Headers that are not passed on."""

_EXTRAS = "vllm_xargs"  # lands where vLLM keeps the first two
_RESPONSES = "/v1/responses"  # the one path where vLLM takes a request's name from its body before the header


def refuse_engine_only(path: str, fields: Mapping[str, Any]) -> None:
    """Raise RequestRefused (400) for a field that only an engine or a router may write. One that is empty is none.

    A zero is not empty: it names the first part of an engine.
    """
    if ENGINE_ONLY_FIELDS.isdisjoint(fields) and _EXTRAS not in fields and path != _RESPONSES:
        return
    extras = fields.get(_EXTRAS)
    places = (fields, extras if isinstance(extras, Mapping) else {})
    found = sorted(name for name in ENGINE_ONLY_FIELDS if any(_says(place.get(name)) for place in places))
    if path == _RESPONSES and _says(fields.get("request_id")):
        found.append("request_id")
    if found:
        text = f"`{found[0]}` is for engines to tell each other: clients may not send it."
        raise RequestRefused(400, text, code="engine_only_field", param=found[0])


def _says(value: object) -> bool:
    return value is not None and value is not False and value not in ("", [], {})
