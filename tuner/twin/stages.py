"""Pipeline stages: which layers each of them holds, and which hold the embedding and the output head.

From `get_pp_indices` of vLLM's `distributed/utils.py` (0.26, 0.33): what does not go evenly goes to the stages before
the last, from behind. `VLLM_PP_LAYER_PARTITION` names the layers of each stage instead.
"""

from __future__ import annotations

from collections.abc import Mapping

from controlplane.domain.errors import InvalidInput
from tuner.twin.layers import LayerGroup, LayerStack
from tuner.twin.shapes import ModelShape

PARTITION = "VLLM_PP_LAYER_PARTITION"


class Stage(LayerStack):
    """The layers of one pipeline stage, and what stands beside them on its GPUs."""

    vocab_params: int = 0
    """Weights of the vocabulary matrices it holds: the embedding on the first, the output head on the last."""
    head_params: int = 0
    """Weights of the output head it multiplies with; 0 but on the last stage."""


def cut_as(shape: ModelShape, env: Mapping[str, str]) -> ModelShape:
    """Return the model as an engine with that environment cuts it into stages."""
    return shape.evolve(partition=env[PARTITION]) if PARTITION in env else shape


def stages_of(shape: ModelShape, count: int) -> tuple[Stage, ...]:
    """Return the stages of a model. Raises InvalidInput where it cannot be cut so."""
    problem = pipeline_problem(shape, count)
    if problem is not None:
        raise InvalidInput(f"pipeline-parallel-size {count} is impossible for {shape.name}", why=problem)
    sizes = _sizes(shape, count)
    starts = [sum(sizes[:number]) for number in range(count)]
    each = zip(starts, sizes, strict=True)
    return tuple(_stage(shape, number, count, start, size) for number, (start, size) in enumerate(each))


def pipeline_problem(shape: ModelShape, count: int) -> str | None:
    """Return why no engine can cut the model into so many stages; None when it can."""
    if count > shape.num_hidden_layers:
        return f"{shape.num_hidden_layers} layers cannot be cut into {count} pipeline stages"
    try:
        sizes = _sizes(shape, count)
    except ValueError:
        return f"{PARTITION} is {shape.partition!r}, whole numbers between commas are needed"
    if len(sizes) != count or sum(sizes) != shape.num_hidden_layers or min(sizes) < 1:
        return (
            f"{PARTITION} {shape.partition} names {len(sizes)} stages of {sum(sizes)} layers, "
            f"there are {count} of {shape.num_hidden_layers}"
        )
    return None


def _sizes(shape: ModelShape, count: int) -> list[int]:
    """Return the layers of each stage. Raises ValueError for a partition that holds no numbers."""
    if shape.partition is not None:
        return [int(size) for size in shape.partition.split(",")]
    even, left = divmod(shape.num_hidden_layers, count)
    return [even + (count - 1 - left <= number < count - 1) for number in range(count)]


def _stage(shape: ModelShape, number: int, count: int, start: int, size: int) -> Stage:
    head = shape.vocab_params if number == count - 1 else 0
    embedding = shape.vocab_params if number == 0 and not (head and shape.tie_word_embeddings) else 0
    return Stage(layers=_between(shape, start, start + size), vocab_params=embedding + head, head_params=head)


def _between(shape: ModelShape, start: int, end: int) -> tuple[LayerGroup, ...]:
    """Return the layers from `start` up to `end`, grouped."""
    order = shape.order or [number for number, group in enumerate(shape.layers) for _ in range(group.count)]
    held = order[start:end]
    return tuple(shape.layers[number].evolve(count=held.count(number)) for number in dict.fromkeys(held))
