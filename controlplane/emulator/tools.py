"""Tools: whether an emulated model calls one, which, and with what arguments.

It calls when it must (`required`, a named one) and, with `auto`, whenever the last word is not a tool's answer: so a
client's loop of call, result and final text comes round.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from controlplane.emulator.endings import Output
from controlplane.emulator.errors import bad_request
from controlplane.emulator.structured import example


class Function(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str
    parameters: dict[str, Any] | None = None


class Tool(BaseModel):
    model_config = ConfigDict(extra="allow")
    type: Literal["function"] = "function"
    function: Function


class NamedFunction(BaseModel):
    name: str


class NamedTool(BaseModel):
    type: Literal["function"] = "function"
    function: NamedFunction


ToolChoice = Literal["none", "auto", "required"] | NamedTool


class ToolCall(NamedTuple):
    """`ends_as` is the reason an answer ends with that is nothing but this call (vLLM: `stop` for a named one)."""

    name: str
    arguments: str
    ends_as: Literal["stop", "tool_calls"]


def tool_call(
    tools: Sequence[Tool] | None, choice: ToolChoice | None, *, last_role: str, auto_allowed: bool
) -> ToolCall | None:
    """Return the call an answer consists of, None for text. Raises ApiError 400 in vLLM's words."""
    if tools is not None and not tools:
        raise bad_request(
            "`tools` must not be an empty array. Either provide at least one tool or omit the field entirely.", "tools"
        )
    if choice is None:
        choice = "auto" if tools else "none"
    if choice == "none":
        return None
    if not tools:
        raise bad_request("When using `tool_choice`, `tools` must be set.", "tool_choice")
    if choice == "auto":
        if not auto_allowed:
            raise bad_request('"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set')
        return None if last_role == "tool" else _call(tools[0], "tool_calls")
    if choice == "required":
        return _call(tools[0], "tool_calls")
    return _call(_named(tools, choice.function.name), "stop")


def ends_as(output: Output, call: ToolCall) -> Output:
    """Return how an answer ends that is a call: whole, or cut by its length."""
    return output._replace(finish_reason=call.ends_as) if output.finish_reason == "stop" else output


def _named(tools: Sequence[Tool], name: str) -> Tool:
    for tool in tools:
        if tool.function.name == name:
            return tool
    raise bad_request("The tool specified in `tool_choice` does not match any of the specified `tools`", "tool_choice")


def _call(tool: Tool, ends_as: Literal["stop", "tool_calls"]) -> ToolCall:
    schema = {"type": "object", **(tool.function.parameters or {})}
    return ToolCall(tool.function.name, json.dumps(example(schema)), ends_as)
