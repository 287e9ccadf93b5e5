"""A group of equal decoder layers: what it weighs and what a token or a sequence leaves in the cache."""

from __future__ import annotations

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
