"""Streams as real servers write them, for the parsers' tests."""

from __future__ import annotations

from itertools import pairwise

from tests.unit.loadtests.stream_shapes import SHAPES, Shape

VLLM_COMPLETION = (
    b'data: {"id":"cmpl-1","object":"text_completion","created":1,"model":"m","choices":[{"index":0,"text":" one",'
    b'"logprobs":null,"finish_reason":null,"stop_reason":null}]}\n\n'
    b'data: {"id":"cmpl-1","object":"text_completion","created":1,"model":"m","choices":[{"index":0,"text":"",'
    b'"logprobs":null,"finish_reason":null,"stop_reason":null}]}\n\n'
    b'data: {"id":"cmpl-1","object":"text_completion","created":1,"model":"m","choices":[{"index":0,"text":" \\"two",'
    b'"logprobs":null,"finish_reason":"length","stop_reason":null}]}\n\n'
    b'data: {"id":"cmpl-1","object":"text_completion","created":1,"model":"m","choices":[],"usage":{"prompt_tokens":9,'
    b'"total_tokens":12,"completion_tokens":3}}\n\n'
    b"data: [DONE]\n\n"
)
VLLM_CHAT = (
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":'
    b'{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}\n\n'
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":'
    b'{"content":"Hello"},"logprobs":null,"finish_reason":null}]}\n\n'
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":'
    b'{"content":" \xc3\xa4"},"logprobs":null,"finish_reason":null}]}\n\n'
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":'
    b'{"content":""},"logprobs":null,"finish_reason":"stop","stop_reason":null}]}\n\n'
    b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":20,"completion_tokens":3,"total_tokens":23}}\n\n'
    b"data: [DONE]\n\n"
)
OPENAI_CHAT = (
    b'data: {"id":"x","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":"",'
    b'"refusal":null},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"a1"}\n\n'
    b'data: {"id":"x","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"Hi"},"logprobs":null,'
    b'"finish_reason":null}],"usage":null,"obfuscation":"b22"}\n\n'
    b'data: {"id":"x","object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"logprobs":null,'
    b'"finish_reason":"stop"}],"usage":null,"obfuscation":"c"}\n\n'
    b'data: {"id":"x","choices":[],"usage":{"prompt_tokens":8,"completion_tokens":1,"total_tokens":9}}\n\n'
    b"data: [DONE]\n\n"
)
TGI_CHAT = (
    b": keep-alive\r\n\r\n"
    b'data:{"object":"chat.completion.chunk","id":"","created":1,"model":"m","choices":[{"index":0,"delta":'
    b'{"role":"assistant","content":"Deep"},"logprobs":null,"finish_reason":null}],"usage":null}\r\n\r\n'
    b'data:{"object":"chat.completion.chunk","id":"","created":1,"model":"m","choices":[{"index":0,"delta":'
    b'{"role":"assistant","content":" learning"},"logprobs":null,"finish_reason":"length"}],"usage":null}\r\n\r\n'
    b"data:[DONE]\r\n\r\n"
)
CORPUS = SHAPES | {
    "vllm completion": Shape(VLLM_COMPLETION, tokens=3, events=3),
    "vllm chat": Shape(VLLM_CHAT, tokens=3, events=2),
    "openai chat": Shape(OPENAI_CHAT, tokens=1, events=1),
    "tgi chat": Shape(TGI_CHAT, tokens=2, events=2),
}


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Cut `data` at the given places (taken modulo its length)."""
    edges = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(edges)]


def chunked(pieces: list[bytes], *, status: int = 200) -> bytes:
    """Frame pieces of a body as a chunked HTTP/1.1 response."""
    head = b"HTTP/1.1 %d OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n" % status
    return head + b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in pieces if each) + b"0\r\n\r\n"
