"""What another engine makes of a request: what it refuses, and what it takes and does not heed."""

from __future__ import annotations

from typing import TypeVar

from controlplane.domain.engines.driver import EngineDriver
from controlplane.emulator.errors import ApiError
from controlplane.emulator.protocol import ChatBody, CompletionBody

Body = TypeVar("Body", ChatBody, CompletionBody, ChatBody | CompletionBody)


def heard(body: Body, speaks: EngineDriver) -> Body:
    """Return the request as this engine takes it: one that has no flag for its name answers to any.

    Raises ApiError 422 for token ids where it reads only text.
    """
    dialect = speaks.dialect
    if isinstance(body, CompletionBody) and not dialect.token_ids and _holds_ids(body):
        raise ApiError(422, "prompt: a string is expected", "validation", "prompt")
    unheeded = {} if dialect.ignore_eos else {"ignore_eos": False, "min_tokens": 0}
    unnamed = {} if speaks.name_flag is not None else {"model": None}
    return body.model_copy(update={**unheeded, **unnamed})


def _holds_ids(body: CompletionBody) -> bool:
    return not isinstance(body.prompt, str) and any(not isinstance(each, str) for each in body.prompt)
