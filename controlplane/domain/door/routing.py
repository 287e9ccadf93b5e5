"""The gateway's routing table, and the record it writes per request."""

from __future__ import annotations

from enum import StrEnum

from pydantic import AwareDatetime, Field, model_validator

from controlplane.domain.base import RevisionId, Value
from controlplane.domain.door.gateway_options import GatewayOptions
from controlplane.domain.door.hold_options import HoldOptions
from controlplane.domain.door.identity import ApiKey
from controlplane.domain.door.judging import Sampling
from controlplane.domain.process import ProcessId


class Backend(Value):
    """One ready replica."""

    engine_id: str
    url: str
    api_key: str | None = Field(default=None, repr=False, description="What the engine asks its clients for.")
    by_priority: bool = Field(default=False, description="The engine schedules by a request's `priority`.")
    by_salt: bool = Field(default=False, description="The engine keeps prefixes apart by a request's `cache_salt`.")


class RevisionRoute(Value):
    revision: RevisionId
    weight_percent: int = Field(ge=0, le=100, description="Of requests; of sessions where clients name them.")
    backends: tuple[Backend, ...] = ()
    concurrency_limit: int | None = Field(
        default=None, ge=1, description="Requests one replica is given at once where the service queues; None: unknown."
    )


class AdapterPart(Value):
    """One version of an adapter, and the engines that have loaded it."""

    loaded_as: str = Field(description="What engines call it.")
    share_percent: int = Field(ge=1, le=100)
    engines: tuple[str, ...] = ()


class AdapterRoute(Value):
    """How requests for an adapter are split between its versions."""

    name: str = Field(description="What clients ask for.")
    parts: tuple[AdapterPart, ...] = Field(min_length=1)


class VersionRoute(Value):
    """A name for one version of the model that is served now."""

    name: str = Field(description="What clients ask for.", examples=["llama@candidate"])
    version: str = Field(description="The version that this is now.", examples=["llama@3"])
    revisions: tuple[RevisionId, ...] = Field(min_length=1)


class ServiceRoute(Value):
    """How requests for one served model are split. Weights sum to 100, or there are none."""

    service: str
    model: str = Field(description="The name clients use; also what the engine serves it as.")
    revisions: tuple[RevisionRoute, ...] = ()
    options: GatewayOptions = GatewayOptions()
    adapters: tuple[AdapterRoute, ...] = ()
    versions: tuple[VersionRoute, ...] = ()
    hold: HoldOptions | None = Field(default=None, description="Hold requests while none is ready; None: 503 at once.")
    split_by: str | None = Field(
        default=None,
        description="The A/B test whose arms these are: it shuffles users anew, and no user is ever in two arms.",
    )
    sampling: Sampling | None = Field(default=None, description="Keep answers of that test for a judge; None: none.")

    @model_validator(mode="after")
    def _whole(self) -> ServiceRoute:
        total = sum(route.weight_percent for route in self.revisions)
        if self.revisions and total != 100:
            raise ValueError(f"weights of {self.service} sum to {total}, not 100")
        return self


class RoutingTable(Value):
    """Everything a gateway needs to serve. A table with a lower version than the present one is refused."""

    version: int = Field(ge=0)
    services: tuple[ServiceRoute, ...] = ()
    api_keys: tuple[ApiKey, ...] = ()
    keys_required: bool = Field(
        default=False, description="A key was made once: everybody needs one, be all of them revoked by now."
    )


class GatewayAddress(Value):
    """Where one running gateway listens; it writes this to `gateways/<name>.json` of the data folder when ready."""

    name: str
    url: str
    admin_url: str
    grpc: str | None = Field(default=None, description="Host and port of its gRPC, where it speaks that.")
    process: ProcessId | None = Field(default=None, description="Of this host; None: it runs in a pod.")


class InFlight(Value):
    """Requests of one revision that a gateway is serving. Wall-clock seconds since arrival, the longest waits only."""

    service: str
    revision: RevisionId | None
    requests: int = Field(ge=0)
    without_token_s: tuple[float, ...] = Field(default=(), description="Streams that wait for a first token.")
    begun_s: tuple[tuple[float, float], ...] = Field(
        default=(), description="Streams that wait for a further token: since arrival, and since the last token."
    )
    whole_s: tuple[float, ...] = Field(default=(), description="Answers in one piece that have not come.")


class CacheResult(StrEnum):
    """What the cache had for a request that it was asked for."""

    HIT = "hit"  # answered without an engine
    SIMILAR = "similar"  # the same, by a question that sounds alike
    CHECKED_SAME = "checked_same"  # a similar one was there; the engine was asked nevertheless, and said the same
    CHECKED_DIFFERENT = "checked_different"  # and said something else: it would have been a false hit
    MISS = "miss"


ENGINE_SPARED = frozenset({CacheResult.HIT, CacheResult.SIMILAR})
"""Results with which no engine was asked."""


class GatewayRecord(Value):
    """One request through the gateway. Lengths and timings only, wall-clock milliseconds, never any text."""

    id: str
    at: AwareDatetime = Field(description="Arrival.")
    gateway: str
    service: str
    model: str
    revision: RevisionId | None
    engine_id: str | None
    weight_percent: int | None = Field(
        default=None, description="Of its revision, in the table that the gateway had when it chose."
    )
    ahead: int | None = Field(
        default=None, ge=0, description="Requests its gateway had in flight at the replica when it was chosen."
    )
    cached_blocks: int | None = Field(
        default=None,
        ge=0,
        description="Leading `prefix_blocks` that the replica was sent before. None: not heeded.",
    )
    adapter: str | None = Field(default=None, description="The version of a LoRA adapter that served it.")
    version: str | None = Field(
        default=None, description="The version that the client asked for by name: it says nothing of the split."
    )
    path: str
    stream: bool
    status: int = Field(description="Status sent to the client.")
    error: str | None = Field(default=None, description="Failure class: upstream_connect, upstream_5xx, truncated...")
    truncated: bool = Field(default=False, description="The stream ended before its end mark.")
    client_gone: bool = Field(default=False, description="The client hung up first; `outcomes` says what that means.")
    retries: int = 0
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    stop: str | None = Field(default=None, description="Why the answer stopped, in the words of chat completions.")
    other_model: bool | None = Field(
        default=None, description="The answer names another model than was asked for. None: it names none."
    )
    declined: bool = Field(default=False, description="The model refused to answer, as the engine marks it.")
    tool_calls: int = Field(default=0, ge=0, description="Calls of tools in the answer.")
    bad_tool_calls: int = Field(
        default=0,
        ge=0,
        description="Of these, to a tool that was not given, or with arguments that are no JSON object.",
    )
    ttft_ms: float | None = None
    tpot_ms: float | None = None
    e2e_ms: float | None = None
    max_itl_ms: float | None = None
    silent_ms: float | None = Field(
        default=None,
        description="Since its last token, of a stream whose client left while its engine was to send the next one.",
    )
    queue_ms: float = 0.0
    elsewhere_ms: float = Field(
        default=0.0, ge=0, description="Of its latencies: spent at another revision, which failed it first."
    )
    key: str | None = Field(default=None, description="Name of the API key.")
    tenant: str | None = Field(default=None, description="Whom the key speaks for.")
    session: str | None = Field(default=None, description="Hash of the session or user id, salted per installation.")
    split_up: bool = Field(
        default=False, description="Its session asks for too much to stay with a revision: each request goes by itself."
    )
    prefix_blocks: tuple[int, ...] = Field(
        default=(), description="Hashes of the prompt's blocks, salted per installation: equal ones share a prefix."
    )
    prefix_block_tokens: float = Field(
        default=0.0, description="Tokens in a block: 16 for token ids; for text 64 bytes by the engine's own count."
    )
    prompt_bytes: int | None = Field(default=None, description="Length of a text prompt in bytes of UTF-8.")
    retried: bool = Field(
        default=False,
        description="A failed attempt that another replica made good: an error of this revision the client never saw.",
    )

    cache: CacheResult | None = Field(
        default=None,
        description="None: not looked up. A hit has no revision and no engine: it says nothing about either.",
    )
    flags: tuple[str, ...] = Field(default=(), description="What the policy on requests found: `screening.Found`.")
    redacted: bool = Field(default=False, description="Something was taken out of the answer.")
    replayed: bool = Field(
        default=False, description="Sent by ourselves to prove a canary's load: nobody's request, never billed."
    )

    @property
    def ok(self) -> bool:
        return self.error is None

    def at_its_revision(self) -> GatewayRecord:
        """Return the record as if it had come when its revision was first asked: what another one took is left out."""
        if not self.elsewhere_ms:
            return self
        parts = {"ttft_ms": self.ttft_ms, "e2e_ms": self.e2e_ms}
        return self.evolve(**{name: max(0.0, ms - self.elsewhere_ms) for name, ms in parts.items() if ms is not None})

    def without_blocks(self) -> GatewayRecord:
        """Return the record without the hashes of its prompt, tens of kB of a long one: for who keeps many."""
        return self.model_copy(update={"prefix_blocks": ()}) if self.prefix_blocks else self
