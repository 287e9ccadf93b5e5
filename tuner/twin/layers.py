"""A group of equal decoder layers: what it weighs and what a token or a sequence leaves in the cache."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from controlplane.domain.base import Value


class Trait(StrEnum):
    """What makes an architecture more than dense layers that see everything. Predictions carry over within a trait."""

    MIXTURE = "mixture of experts"
    LATENT = "latent attention"
    SLIDING = "sliding window"
    STATE = "state space"


class LayerGroup(Value):
    """`count` equal layers. Weights are counted per layer, cached values per layer and token, all GPUs together."""

    count: int = Field(gt=0)
    attention: int = Field(default=0, ge=0, description="Weights of the projections around attention or state.")
    mlp: int = Field(default=0, ge=0, description="Weights every token is multiplied with: dense, shared, router.")
    expert: int = Field(default=0, ge=0, description="Weights of one routed expert.")
    experts: int = Field(default=0, ge=0)
    experts_per_token: int = Field(default=0, ge=0)
    kv_values: int = Field(default=0, ge=0, description="Numbers one token leaves in the cache.")
    kv_heads: int = Field(default=1, ge=1, description="Into how many parts the cache can be split; 1 for MLA.")
    pair_flops: int = Field(default=0, ge=0, description="FLOPs of attention per pair of tokens.")
    latent: bool = Field(default=False, description="What is cached is a latent, not keys and values of heads.")
    window: int | None = Field(default=None, gt=0, description="Tokens attention looks back; None is all.")
    state_values: int = Field(default=0, ge=0, description="Numbers one sequence keeps, however long it is.")

    @model_validator(mode="after")
    def _a_token_meets_experts_there_are(self) -> Self:
        if bool(self.experts) != bool(self.experts_per_token) or self.experts_per_token > self.experts:
            raise ValueError(f"a token cannot go to {self.experts_per_token} of {self.experts} experts")
        return self

    @property
    def traits(self) -> frozenset[Trait]:
        """What sets these layers apart."""
        found = {
            Trait.MIXTURE: self.experts > 0,
            Trait.LATENT: self.latent,
            Trait.SLIDING: self.window is not None,
            Trait.STATE: self.state_values > 0,
        }
        return frozenset(trait for trait, present in found.items() if present)

    @property
    def routed(self) -> int:
        """Weights of all routed experts of one layer."""
        return self.expert * self.experts

    @property
    def active(self) -> int:
        """Weights one token is multiplied with in one layer."""
        return self.attention + self.mlp + self.expert * self.experts_per_token


class LayerStack(Value):
    """Layers that run one after another: of a whole model, or of one pipeline stage."""

    layers: tuple[LayerGroup, ...]

    @property
    def num_hidden_layers(self) -> int:
        return sum(group.count for group in self.layers)

    @property
    def linear_params(self) -> int:
        """Weights of all layers; embedding and output head are apart."""
        return self.total(lambda group: group.attention + group.mlp + group.routed)

    @property
    def active_linear_params(self) -> int:
        """Weights of the layers one token is multiplied with."""
        return self.total(lambda group: group.active)

    @property
    def routed_params(self) -> int:
        """Weights of all routed experts of all layers; 0 without a mixture."""
        return self.total(lambda group: group.routed)

    @property
    def active_routed_params(self) -> int:
        """Weights of the routed experts one token is sent to."""
        return self.total(lambda group: group.expert * group.experts_per_token)

    @property
    def state_values(self) -> int:
        """Numbers one sequence keeps in all layers, however long it is."""
        return self.total(lambda group: group.state_values)

    def kv_bytes_per_token(self, kv_bytes: float) -> float:
        """Bytes one token's keys and values take in all layers, all GPUs together."""
        return self.total(lambda group: group.kv_values) * kv_bytes

    def kv_bytes_per_gpu(self, kv_bytes: float, tensor: int) -> float:
        """Bytes one token takes on one of `tensor` GPUs: a head is never split, a latent is kept by each of them."""
        return kv_bytes * sum(group.count * group.kv_values / min(tensor, group.kv_heads) for group in self.layers)

    def kv_bytes_of(self, tokens: int, kv_bytes: float, tensor: int, *, step_tokens: int) -> float:
        """Bytes one sequence of `tokens` needs at most on one GPU: a sliding layer keeps its window and one step."""
        return sum(
            group.count * (group.kv_values / min(tensor, group.kv_heads)) * kv_bytes * _kept(group, tokens, step_tokens)
            + group.count * group.state_values / tensor * 2
            for group in self.layers
        )

    def total(self, of: Callable[[LayerGroup], int]) -> int:
        """Return the sum of what `of` says of each layer."""
        return sum(group.count * of(group) for group in self.layers)


def _kept(group: LayerGroup, tokens: int, step_tokens: int) -> int:
    return tokens if group.window is None else min(tokens, group.window - 1 + step_tokens)
