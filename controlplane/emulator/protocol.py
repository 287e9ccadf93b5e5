"""What clients may ask, and how a refusal looks (OpenAI's shape, in vLLM's words)."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Body = TypeVar("Body", bound=BaseModel)


class ApiError(Exception):
    """A request that is refused. `kind` is vLLM's error type, e.g. BadRequestError."""

    def __init__(self, status: int, message: str, kind: str, param: str | None = None) -> None:
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": status}}
        super().__init__(message)


def bad_request(message: str, param: str | None = None) -> ApiError:
    return ApiError(400, message, "BadRequestError", param)


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
    n: int = 1
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    min_tokens: int = Field(default=0, ge=0)
    priority: int = 0
    cache_salt: str | None = None

    def limit(self) -> int | None:
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


class Message(BaseModel):
    model_config = ConfigDict(extra="allow")
    role: str
    content: str | list[dict[str, Any]] | None = None


class ChatBody(_Body):
    messages: list[Message] = Field(min_length=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool | None = False

    def limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens


class TokenizeBody(BaseModel):
    model_config = ConfigDict(extra="allow")
    model: str | None = None
    prompt: str | None = None
    messages: list[Message] | None = None


class DetokenizeBody(BaseModel):
    model_config = ConfigDict(extra="allow")
    model: str | None = None
    tokens: list[int]


class Output(NamedTuple):
    """How one answer ends: after `tokens` tokens, for this reason."""

    tokens: int
    finish_reason: Literal["stop", "length", "abort"]
    stop_reason: str | int | None = None
    characters: int | None = None
    """Length of the text when a stop string cuts it, None when all of it is said."""


def read_body(kind: type[Body], raw: bytes) -> Body:
    """Parse a request body. Raises ApiError 400 naming each wrong field, never quoting what it held."""
    try:
        return kind.model_validate_json(raw)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, p['loc'])) or 'body'}: {p['msg']}" for p in error.errors(include_url=False)]
        raise bad_request("; ".join(problems[:5])) from None


def refuse_unsupported(body: CompletionBody | ChatBody) -> None:
    """Say plainly what is not emulated instead of answering something else."""
    if body.n != 1:
        raise bad_request("only n=1 is emulated", "n")
    if body.logprobs:
        raise bad_request("logprobs are not emulated", "logprobs")
    if isinstance(body, CompletionBody) and body.echo:
        raise bad_request("echo is not emulated", "echo")


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
