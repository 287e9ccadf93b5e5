"""What a gateway does for one service beyond routing: patience, limits, prices, kept answers, queues."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field, model_validator

from controlplane.domain.base import Value
from controlplane.domain.door.caching import CacheOptions
from controlplane.domain.door.identity import Limits
from controlplane.domain.door.privacy import PrivacyOptions
from controlplane.domain.door.queue_options import QueueOptions


class TokenPrice(Value):
    """What tokens are worth to their users: for limits in USD."""

    usd_per_million_prompt_tokens: float = Field(ge=0)
    usd_per_million_output_tokens: float = Field(ge=0)

    def usd(self, prompt_tokens: float, output_tokens: float) -> float:
        """Return what a request costs."""
        prompt, output = self.usd_per_million_prompt_tokens, self.usd_per_million_output_tokens
        return (prompt_tokens * prompt + output_tokens * output) / 1e6


class GatewayOptions(Value):
    """What the gateway does for this service beyond routing."""

    max_retries: int = Field(default=2, ge=0, description="Other replicas tried before the first byte.")
    connect_timeout_s: float = Field(default=2, gt=0)
    first_token_timeout_s: float = Field(default=120, gt=0)
    stall_timeout_s: float = Field(default=60, gt=0)
    response_timeout_s: float = Field(default=600, gt=0, description="The whole of an answer that does not stream.")
    prefix_affinity: bool = Field(
        default=True, description="Prefer the replica that has a prompt's beginning in its cache, by what that saves."
    )
    share_prefixes: bool = Field(
        default=False,
        description="Tenants share what engines have of a prompt's beginning: faster where they have beginnings in "
        "common, but who guesses one can tell by the time of an answer that another tenant asked so.",
    )
    limits: Limits = Field(default=Limits(), description="Of all requests for this model.")
    tenant_limits: Limits = Field(default=Limits(), description="Of each tenant's requests for this model.")
    limits_of: Mapping[str, Limits] = Field(
        default_factory=dict, description="By tenant, instead of `tenant_limits`; `{}` is no limit."
    )
    price: TokenPrice | None = Field(default=None, description="Needed where a limit is in USD.")
    fallback: str | None = Field(
        default=None, description="A model served here that answers when this one is overloaded, instead of a 503."
    )
    media_hosts: tuple[str, ...] | None = Field(
        default=None,
        description="Hosts from which engines may be told to fetch pictures, sounds and videos; `*.example.com`: all "
        "below it, `*`: any. None: any that is not evidently some network's own.",
    )
    cache: CacheOptions = CacheOptions()
    privacy: PrivacyOptions = PrivacyOptions()
    queue: QueueOptions = QueueOptions()

    @model_validator(mode="after")
    def _priced(self) -> GatewayOptions:
        limits = (self.limits, self.tenant_limits, *self.limits_of.values())
        if self.price is None and any(each.in_usd for each in limits):
            raise ValueError("a limit in USD needs `price`, what a million tokens cost")
        return self

    @property
    def bare(self) -> GatewayOptions:
        """Its times and its choice of a replica alone: what is for users (limits, queue, cache, screening) left out."""
        kept = {name for name in type(self).model_fields if name.endswith("_s")}
        return GatewayOptions(**self.model_dump(include=kept | {"max_retries", "prefix_affinity", "share_prefixes"}))
