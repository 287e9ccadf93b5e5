"""A mistyped field of service.yaml is answered with the one that was meant."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from controlplane.domain.errors import InvalidInput
from controlplane.domain.service import ServiceSpec
from controlplane.reading.service_file import parse_service

SERVICE = {
    "name": "chat",
    "model": {"name": "m", "path": "llama-8b"},
    "engine": {"kind": "emulator", "emulator": {"startup_s": 1}},
    "gpus": {"type": "H200", "count": 1, "price_usd_per_gpu_hour": 3},
    "workload": {"kind": "synthetic", "prompt_tokens": {"mean": 9}, "output_tokens": {"mean": 9}},
    "slos": {"latency": [{"metric": "ttft_ms", "percentile": 95, "limit_ms": 500}], "target_qps": 5},
    "tuning": {"budget": {"engine_starts": 9}, "space": {"max-num-seqs": {"choices": [64]}}},
    "rollout": {"steps": [{"weight_percent": 100}]},
}


def fields(part: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every field of the example that has a name of its own (flags of the space have none)."""
    pairs = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    for name, value in pairs:
        if isinstance(name, str) and place != ("tuning", "space"):
            yield (*place, name)
        yield from fields(value, (*place, name))


def renamed(place: tuple[str | int, ...], name: str) -> str:
    """The example with the field at `place` given another name."""
    service: Any = copy.deepcopy(SERVICE)
    above = service
    for step in place[:-1]:
        above = above[step]
    above[name] = above.pop(place[-1])
    return yaml.safe_dump(service)


TAG = ("workload", "kind")  # without it a workload has no fields yet
LONG = [place for place in fields(SERVICE) if len(str(place[-1])) > 3 and place != TAG]


@pytest.mark.parametrize("place", LONG, ids=[".".join(map(str, place)) for place in LONG])
def test_a_letter_too_many_is_recognised_wherever_it_stands(place: tuple[str | int, ...]) -> None:
    meant = str(place[-1])
    with pytest.raises(InvalidInput, match=f"{meant}x: unknown field, did you mean {meant}\\?"):
        parse_service(renamed(place, f"{meant}x"), source="service.yaml")


def test_a_field_like_no_other_is_answered_with_those_there_are() -> None:
    text = yaml.safe_dump({**SERVICE, "colour": "red"})
    with pytest.raises(InvalidInput, match="colour: unknown field, allowed: ") as refused:
        parse_service(text, source="service.yaml")
    assert all(name in refused.value.why for name in ServiceSpec.model_fields)
