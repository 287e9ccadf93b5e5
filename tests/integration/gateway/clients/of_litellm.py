"""LiteLLM as a client, with the gateway as one of its OpenAI-compatible providers: prints what it got as JSON.

`python of_litellm.py URL KEY MODEL`
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it would ask the internet for prices

import litellm

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
SHAPE = {"type": "json_schema", "json_schema": {"name": "city", "schema": {"type": "object"}}}


def ask(url: str, key: str, model: str) -> dict[str, Any]:
    """Ask in the ways that applications do."""
    where: dict[str, Any] = {"model": f"openai/{model}", "api_base": f"{url}/v1", "api_key": key, "max_retries": 0}

    def said(text: str, **more: Any) -> Any:
        return litellm.completion(messages=[{"role": "user", "content": text}], **where, **more)

    whole = said("hi")
    pieces = [piece.choices[0].delta.content for piece in said("hi", stream=True)]
    later = asyncio.run(litellm.acompletion(messages=[{"role": "user", "content": "hi"}], **where))
    return {
        "text": whole.choices[0].message.content,
        "tokens": whole.usage.total_tokens,
        "streamed": [piece for piece in pieces if piece],
        "asynchronous": later.choices[0].message.content,
        "tool": json.loads(said("call a tool", tools=[TOOL]).choices[0].message.tool_calls[0].function.arguments),
        "shaped": json.loads(said("say json", response_format=SHAPE).choices[0].message.content),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(ask(*sys.argv[1:])))
