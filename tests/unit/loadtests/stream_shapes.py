"""More streams as servers write them: each with its tokens and the chunks that stand for tokens.

The bytes follow what vLLM 0.26, OpenAI, Text Generation Inference 3, llama.cpp and SGLang write: their order of fields,
nulls, spaces and line ends.
"""

from __future__ import annotations

from typing import NamedTuple

_CHAT = '"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m"'
_TEXT = '"id":"cmpl-1","object":"text_completion","created":1,"model":"m"'


class Shape(NamedTuple):
    body: bytes
    tokens: int  # as the server counts them, or one per chunk where it does not
    events: int  # chunks that stand for tokens


def stream(*chunks: str, start: str = "data: ", end: str = "\n\n", done: bool = True) -> bytes:
    """Write chunks as events; what begins with a colon is a comment, what names its event is sent as it is."""
    lines = [chunk if chunk.startswith((":", "event:")) else start + chunk for chunk in chunks]
    return end.join([*lines, *([f"{start}[DONE]"] if done else []), ""]).encode()


def _vllm(delta: str, *, finish: str = "null", rest: str = "") -> str:
    ends = f'"logprobs":null,"finish_reason":{finish},"token_ids":null'
    return f'{{{_CHAT},"choices":[{{"index":0,"delta":{{{delta}}},{ends}}}]{rest}}}'


def _usage(prompt: int, completion: int) -> str:
    counts = f'"prompt_tokens":{prompt},"total_tokens":{prompt + completion},"completion_tokens":{completion}'
    return f'"usage":{{{counts}}}'


def _openai(delta: str, obfuscation: str, *, finish: str = "null") -> str:
    choice = f'{{"index":0,"delta":{{{delta}}},"logprobs":null,"finish_reason":{finish}}}'
    named = '"service_tier":"default","system_fingerprint":"fp_1"'
    return f'{{{_CHAT},{named},"choices":[{choice}],"usage":null,"obfuscation":"{obfuscation}"}}'


def _tgi_token(index: int, text: str, rest: str = '"generated_text":null,"details":null') -> str:
    token = f'{{"id":{index + 300},"text":"{text}","logprob":-0.4,"special":false}}'
    return f'{{"index":{index},"token":{token},{rest}}}'


def _llama(delta: str, *, finish: str = "null", rest: str = "") -> str:
    choice = f'{{"finish_reason":{finish},"index":0,"delta":{{{delta}}}}}'
    named = (
        '"created":1,"id":"chatcmpl-q","model":"m.gguf","system_fingerprint":"b9554","object":"chat.completion.chunk"'
    )
    return f'{{"choices":[{choice}],{named}{rest}}}'


def _sglang(delta: str, *, finish: str = "null", stop: str = "null") -> str:
    choice = f'{{"index":0,"delta":{{{delta}}},"logprobs":null,"finish_reason":{finish},"matched_stop":{stop}}}'
    return f'{{{_CHAT},"choices":[{choice}],"usage":null}}'


_ROLE = '"role":"assistant","content":""'
_REASONING = stream(
    _vllm(_ROLE),
    _vllm('"reasoning":"Let"'),
    _vllm('"reasoning":" me \\u2026"'),
    _vllm('"content":"Hi"'),
    _vllm('"content":""'),
    _vllm('"content":" 🙂"'),
    _vllm('"content":""', finish='"stop"'),
    f'{{{_CHAT},"choices":[],{_usage(12, 6)}}}',
)
_TOOLS = stream(
    _vllm(_ROLE),
    _vllm('"tool_calls":[{"id":"call_1","type":"function","index":0,"function":{"name":"weather"}}]'),
    _vllm('"tool_calls":[{"index":0,"function":{"arguments":"{\\"city\\": "}}]'),
    _vllm('"tool_calls":[{"index":0,"function":{"arguments":"\\"Bern\\"}"}}]'),
    _vllm('"content":""', finish='"tool_calls"'),
    f'{{{_CHAT},"choices":[],{_usage(90, 17)}}}',
)
_CONTINUOUS = stream(
    _vllm(_ROLE, rest="," + _usage(7, 0)),
    _vllm('"content":"A"', rest="," + _usage(7, 1)),
    _vllm('"content":"A"', rest="," + _usage(7, 2)),
    _vllm('"content":" b c"', rest="," + _usage(7, 5)),
    _vllm('"content":""', finish='"stop"', rest="," + _usage(7, 6)),
    f'{{{_CHAT},"choices":[],{_usage(7, 6)}}}',
)
_TOKEN_IDS = stream(
    f'{{{_TEXT},"choices":[{{"index":0,"text":" a","logprobs":null,"finish_reason":null,"token_ids":[5],'
    '"prompt_token_ids":[1,2]}]}',
    f'{{{_TEXT},"choices":[{{"index":0,"text":" b c","logprobs":null,"finish_reason":null,"token_ids":[6,7]}}]}}',
    f'{{{_TEXT},"choices":[{{"index":0,"text":"","logprobs":null,"finish_reason":"stop","token_ids":[2]}}]}}',
)
_PINGS = stream(
    ": ping - 2026-11-25 08:00:00.000000+00:00",
    f'{{{_TEXT},"choices":[{{"index":0,"text":"x","finish_reason":null}}]}}',
    ": ping - 2026-11-25 08:00:15.000000+00:00",
    ":",
    f'{{{_TEXT},"choices":[{{"index":0,"text":"y","finish_reason":null}}]}}',
    f'{{{_TEXT},"choices":[{{"index":0,"text":"z","finish_reason":"length"}}]}}',
    end="\r\n\r\n",
)
_OPENAI = stream(
    _openai('"role":"assistant","content":"","refusal":null', "o9Rtsx"),
    _openai('"content":"Hel"', "Qx"),
    _openai('"content":"lo"', "a8FbqZ"),
    _openai('"content":"lo"', "lo"),
    _openai("", "Z", finish='"stop"'),
    f'{{{_CHAT},"choices":[],"usage":{{"prompt_tokens":8,"completion_tokens":4,"total_tokens":12,'
    '"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0}},"obfuscation":"mM"}',
)
_AZURE = stream(
    '{"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"prompt_index":0}]}',
    _openai('"role":"assistant","content":"","refusal":null', ""),
    _openai('"content":"Yes"', ""),
    _openai("", "", finish='"stop"'),
)
_TGI_NATIVE = stream(
    _tgi_token(1, " Deep"),
    _tgi_token(2, ' \\"learn'),
    _tgi_token(
        3,
        "ing",
        '"generated_text":" Deep \\"learning","details":{"finish_reason":"length","generated_tokens":3,"seed":null}',
    ),
    start="data:",
    done=False,
)
_LLAMA = stream(
    _llama('"role":"assistant","content":null'),
    _llama("", rest=',"prompt_progress":{"total":237,"cache":0,"processed":128,"time_ms":181}'),
    _llama('"reasoning_content":"Play"', rest=',"timings":{"predicted_n":1,"predicted_ms":14.3}'),
    _llama('"content":"Hi"', rest=',"timings":{"predicted_n":2,"predicted_ms":28.7}'),
    _llama("", finish='"stop"', rest=',"timings":{"predicted_n":3,"predicted_ms":43.0}'),
    '{"choices":[],"created":1,"id":"chatcmpl-q","model":"m.gguf","object":"chat.completion.chunk",'
    '"usage":{"completion_tokens":3,"prompt_tokens":11,"total_tokens":14}}',
)
_SGLANG = stream(
    _sglang('"role":"assistant","content":"","reasoning_content":null,"tool_calls":null'),
    _sglang('"role":null,"content":null,"reasoning_content":"2","tool_calls":null'),
    _sglang('"role":null,"content":"","reasoning_content":null,"tool_calls":null'),
    _sglang('"role":null,"content":"4","reasoning_content":null,"tool_calls":null'),
    _sglang('"role":null,"content":null,"reasoning_content":null,"tool_calls":null', finish='"stop"', stop="106"),
)
SHAPES = {
    "vllm reasoning": Shape(_REASONING, 6, 5),
    "vllm tool calls": Shape(_TOOLS, 17, 3),
    "vllm continuous usage": Shape(_CONTINUOUS, 6, 3),
    "vllm token ids": Shape(_TOKEN_IDS, 4, 3),
    "keep-alive comments": Shape(_PINGS, 3, 3),
    "openai obfuscation": Shape(_OPENAI, 4, 3),
    "azure openai": Shape(_AZURE, 1, 1),
    "tgi generate_stream": Shape(_TGI_NATIVE, 3, 3),
    "llama.cpp reasoning": Shape(_LLAMA, 3, 2),
    "sglang reasoning": Shape(_SGLANG, 3, 3),
}
ERRORS = {
    "vllm in mid-stream": stream(
        _vllm(_ROLE),
        _vllm('"content":"A"'),
        '{"error":{"message":"EngineCore encountered an issue.","type":"InternalServerError","param":null,"code":500}}',
    ),
    "tgi in mid-stream": stream(
        _tgi_token(1, " Deep"),
        '{"error":"Request failed during generation: Server error: CANCELLED","error_type":"generation"}',
        start="data:",
        done=False,
    ),
    "named event": stream(_vllm('"content":"A"'), 'event: error\ndata: {"message":"overloaded"}', done=False),
}
"""Streams that end in an error event after some tokens."""
