"""The bytes of an answer, in the shapes of vLLM 0.26 (entrypoints/openai/{chat_completion,completion}/serving.py).

A stream is many small JSON objects that differ in one word, so all but that word is written once per request.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

DONE = b"data: [DONE]\n\n"


def frame(event: bytes) -> bytes:
    """Wrap one server-sent event as one chunk of HTTP/1.1 chunked coding (as uvicorn sends each yield)."""
    return b"%x\r\n%s\r\n" % (len(event), event)


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "completion_tokens": completion_tokens,
    }


class Said(NamedTuple):
    """Some of an answer's text. `finish` is None while there is more to come."""

    text: str
    finish: str | None = None
    stop_reason: str | int | None = None
    logprobs: dict[str, Any] | None = None


class Shape:
    """What is fixed in one answer: its id, its model and when it was made."""

    stream_object: str
    full_object: str

    def __init__(self, answer_id: str, model: str, created: int) -> None:
        self.base = {"id": answer_id, "object": self.stream_object, "created": created, "model": model}
        self._start = json.dumps(self.base, separators=(",", ":"), ensure_ascii=False).encode()[:-1]

    def opening(self, index: int, usage_: dict[str, int] | None) -> bytes:
        """Return the event before the first word, empty when there is none."""
        raise NotImplementedError

    def choice(self, index: int, said: Said) -> dict[str, Any]:
        raise NotImplementedError

    def full_choice(self, index: int, said: Said) -> dict[str, Any]:
        raise NotImplementedError

    def event(self, index: int, said: Said, usage_: dict[str, int] | None = None) -> bytes:
        """Return the event that carries some text: in the middle of an answer, or its last with why it is that."""
        return self._event(self.choice(index, said), usage_)

    def usage_event(self, usage_: dict[str, int]) -> bytes:
        return b'data: %s,"choices":[],"usage":%s}\n\n' % (self._start, _dump(usage_))

    def full(self, choices: list[dict[str, Any]], usage_: dict[str, int]) -> dict[str, Any]:
        """Return the whole answer as one object (no streaming)."""
        return {
            **self.base,
            "object": self.full_object,
            "choices": choices,
            "service_tier": None,
            "system_fingerprint": None,
            "usage": {**usage_, "prompt_tokens_details": None},
            "kv_transfer_params": None,
        }

    def _event(self, choice: dict[str, Any], usage_: dict[str, int] | None) -> bytes:
        counted = b"" if usage_ is None else b',"usage":' + _dump(usage_)
        return b'data: %s,"choices":[%s]%s}\n\n' % (self._start, _dump(choice), counted)


class ChatShape(Shape):
    stream_object = "chat.completion.chunk"
    full_object = "chat.completion"

    def opening(self, index: int, usage_: dict[str, int] | None) -> bytes:
        delta = {"role": "assistant", "content": ""}
        return self._event({"index": index, "delta": delta, "logprobs": None, "finish_reason": None}, usage_)

    def choice(self, index: int, said: Said) -> dict[str, Any]:
        shared = {"index": index, "delta": self._delta(said.text), "logprobs": said.logprobs}
        ending = {} if said.finish is None else {"stop_reason": said.stop_reason}
        return {**shared, "finish_reason": said.finish, **ending, "token_ids": None}

    def full_choice(self, index: int, said: Said) -> dict[str, Any]:
        message: dict[str, Any] = {
            "role": "assistant",
            "content": said.text,
            "refusal": None,
            "annotations": None,
            "audio": None,
        }
        message |= {"function_call": None, "tool_calls": [], "reasoning": None} | self._message(said.text)
        ending = {"finish_reason": said.finish, "stop_reason": said.stop_reason, "token_ids": None}
        return {"index": index, "message": message, "logprobs": said.logprobs, **ending}

    def _delta(self, text: str) -> dict[str, Any]:
        return {"content": text}

    def _message(self, text: str) -> dict[str, Any]:
        """Return what a message holds apart from a text's message."""
        return {}

    def full(self, choices: list[dict[str, Any]], usage_: dict[str, int]) -> dict[str, Any]:
        return {**super().full(choices, usage_), "prompt_logprobs": None, "prompt_token_ids": None}


class ToolCallShape(ChatShape):
    """A chat whose answer is one call of a tool: its text is the arguments."""

    def __init__(
        self, answer_id: str, model: str, created: int, *, call_id: str, name: str, content: str | None
    ) -> None:
        super().__init__(answer_id, model, created)
        self._call_id, self._name, self._content = call_id, name, content

    def opening(self, index: int, usage_: dict[str, int] | None) -> bytes:
        function = {"name": self._name, "arguments": ""}
        call = {"id": self._call_id, "type": "function", "index": 0, "function": function}
        named = {"index": index, "delta": {"tool_calls": [call]}, "logprobs": None, "finish_reason": None}
        return super().opening(index, usage_) + self._event(named, usage_)

    def _delta(self, text: str) -> dict[str, Any]:
        return {"tool_calls": [{"index": 0, "function": {"arguments": text}}]}

    def _message(self, text: str) -> dict[str, Any]:
        function = {"name": self._name, "arguments": text}
        return {
            "content": self._content,
            "tool_calls": [{"id": self._call_id, "type": "function", "function": function}],
        }


class CompletionShape(Shape):
    stream_object = "text_completion"
    full_object = "text_completion"

    def opening(self, index: int, usage_: dict[str, int] | None) -> bytes:
        return b""

    def choice(self, index: int, said: Said) -> dict[str, Any]:
        ending = {"finish_reason": said.finish, "stop_reason": said.stop_reason}
        ids = {"prompt_token_ids": None, "token_ids": None}
        return {"index": index, "text": said.text, "logprobs": said.logprobs, **ending, **ids}

    def full_choice(self, index: int, said: Said) -> dict[str, Any]:
        return {**self.choice(index, said), "prompt_logprobs": None}


class WordEvents:
    """The words in the middle of one choice, framed, with everything but the word prepared."""

    def __init__(self, shape: Shape, index: int) -> None:
        mark = "\x00"
        before, after = shape.event(index, Said(mark)).split(json.dumps(mark)[1:-1].encode())
        self._before, self._after = before, after
        self._fixed = len(before) + len(after)

    def framed(self, word: bytes) -> bytes:
        """Return the framed event for a word that is JSON-escaped already."""
        return b"%x\r\n%s%s%s\r\n" % (self._fixed + len(word), self._before, word, self._after)


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
