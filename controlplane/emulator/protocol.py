"""What clients may ask, and how a refusal looks (OpenAI's shape, in vLLM's words)."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from controlplane.emulator.errors import bad_request
from controlplane.emulator.structured import ResponseFormat, StructuredOutputs
from controlplane.emulator.tools import Tool, ToolChoice

Body = TypeVar("Body", bound=BaseModel)


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="allow")
    include_usage: bool | None = False
    continuous_usage_stats: bool | None = False


class _Body(BaseModel):
    """Fields both endpoints share. Unknown ones are accepted and ignored, as vLLM does."""

    model_config = ConfigDict(extra="allow")
    model: str | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: int | None = 1
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    min_tokens: int = Field(default=0, ge=0)
    priority: int = 0
    cache_salt: str | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    use_beam_search: bool = False

    def limit(self) -> int | None:
        raise NotImplementedError

    def top_logprobs_wanted(self) -> int | None:
        """Return how many alternatives each token is to come with, None when no logprobs are asked for."""
        raise NotImplementedError

    @property
    def stops(self) -> tuple[str, ...]:
        words = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(word for word in words if word)

    @property
    def include_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def continuous_usage(self) -> bool:
        return self.include_usage and bool(self.stream_options and self.stream_options.continuous_usage_stats)


class CompletionBody(_Body):
    prompt: str | list[int] | list[str] | list[list[int]]
    max_tokens: int | None = Field(default=16, ge=1)
    echo: bool | None = False
    logprobs: int | None = None

    def limit(self) -> int | None:
        return self.max_tokens

    def top_logprobs_wanted(self) -> int | None:
        return self.logprobs


class Message(BaseModel):
    model_config = ConfigDict(extra="allow")
    role: str
    content: str | list[dict[str, Any]] | None = None


class ChatBody(_Body):
    messages: list[Message] = Field(min_length=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool | None = False
    top_logprobs: int | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None

    def limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    def top_logprobs_wanted(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None


class TokenizeBody(BaseModel):
    model_config = ConfigDict(extra="allow")
    model: str | None = None
    prompt: str | None = None
    messages: list[Message] | None = None
    return_token_strs: bool | None = False


class DetokenizeBody(BaseModel):
    model_config = ConfigDict(extra="allow")
    model: str | None = None
    tokens: list[int]


def read_body(kind: type[Body], raw: bytes) -> Body:
    """Parse a request body. Raises ApiError 400 naming each wrong field, never quoting what it held."""
    try:
        return kind.model_validate_json(raw)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, p['loc'])) or 'body'}: {p['msg']}" for p in error.errors(include_url=False)]
        raise bad_request("; ".join(problems[:5])) from None


def refuse_wrong(body: CompletionBody | ChatBody) -> None:
    """Refuse what vLLM refuses, in its words, and say plainly what is not emulated."""
    if body.n is not None and body.n < 1:
        raise bad_request(f"n must be at least 1, got {body.n}.", "n")
    if body.stream_options is not None and not body.stream:
        raise bad_request("Stream options can only be defined when `stream=True`.", "stream_options")
    if (top := body.top_logprobs_wanted()) is not None and top < 0:
        field = "top_logprobs" if isinstance(body, ChatBody) else "logprobs"
        raise bad_request(f"`{field}` must be a positive value or -1.", field)
    if isinstance(body, ChatBody) and body.top_logprobs and not body.logprobs:
        raise bad_request("when using `top_logprobs`, `logprobs` must be set to true.", "top_logprobs")
    if isinstance(body, CompletionBody) and body.echo:
        raise bad_request("echo is not emulated", "echo")
    if body.use_beam_search:
        raise bad_request("beam search is not emulated", "use_beam_search")


def check_context(prompt_tokens: int, max_model_len: int, wanted: int | None) -> None:
    """Refuse what vLLM refuses: a prompt that leaves no room, or more output than fits behind it."""
    if prompt_tokens == 0:
        raise bad_request("The decoder prompt cannot be empty", "prompt")
    if prompt_tokens + (wanted or 1) > max_model_len:
        raise bad_request(
            f"This model's maximum context length is {max_model_len} tokens. However, you requested {wanted or 1} "
            f"output tokens and your prompt contains {prompt_tokens} input tokens, for a total of "
            f"{prompt_tokens + (wanted or 1)} tokens. Please reduce the length of the input prompt or the number of "
            "requested output tokens.",
            "input_tokens",
        )
