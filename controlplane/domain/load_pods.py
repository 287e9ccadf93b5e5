"""Pods that send the load of trials: where on a cluster they run, and how many a rate takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from pydantic import Field

from controlplane.domain.base import Value
from controlplane.domain.cluster import DnsLabel


class LoadRate(NamedTuple):
    """What a load asks of its generators, per second of the wall clock."""

    requests_per_s: float
    tokens_per_s: float


class LoadPods(Value):
    """Pods of the control plane's image, each one generator process. None of them asks for a GPU.

    One process was measured to carry 1,000 requests of 32 tokens a second (docs/results/load-generator.md); half of
    that leaves room for a slower core.
    """

    image: str = Field(min_length=1, description="The control plane's.")
    image_pull_secrets: tuple[DnsLabel, ...] = ()
    node_selector: Mapping[str, str] = Field(default_factory=dict, description="Labels of nodes without GPUs.")
    tolerations: Mapping[str, str] = Field(
        default_factory=dict, description="Taints of those nodes: key and value, an empty one for any."
    )
    priority_class: DnsLabel | None = None
    cpus: int = Field(default=2, ge=1, description="Whole ones, asked for and given, so that nobody shares them.")
    memory_gib: int = Field(default=2, ge=1)
    requests_per_s: float = Field(default=500.0, gt=0, description="What one pod sends at most.")
    tokens_per_s: float = Field(default=15_000.0, gt=0, description="What one pod reads at most.")
    most: int = Field(default=8, ge=1, description="Pods of one trial.")

    def needed(self, rate: LoadRate) -> int:
        """Return how many pods a rate takes; beyond `most`, whose own checks then say whether they kept up."""
        share = max(rate.requests_per_s / self.requests_per_s, rate.tokens_per_s / self.tokens_per_s)
        return min(self.most, max(1, math.ceil(share)))
