"""LangChain's chat model for OpenAI: prints what it got as JSON. `python of_langchain.py URL KEY MODEL`."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel


class City(BaseModel):
    """A city."""

    name: str
    people: int


@tool  # type: ignore[untyped-decorator]  # where the package is missing
def weather(city: str) -> str:
    """Say how the weather is."""
    return city


def ask(url: str, key: str, model: str) -> dict[str, Any]:
    """Ask in the ways that applications do."""
    chat: Any = ChatOpenAI(base_url=f"{url}/v1", api_key=key, model=model, max_retries=0)
    said = chat.invoke("hi")
    called = chat.bind_tools([weather]).invoke("call a tool")
    shaped = chat.with_structured_output(City, method="json_schema").invoke("say json")
    return {
        "text": said.content,
        "tokens": said.usage_metadata["total_tokens"],
        "streamed": [piece.content for piece in chat.stream("hi") if piece.content],
        "asynchronous": asyncio.run(chat.ainvoke("hi")).content,
        "tool": called.tool_calls[0]["args"],
        "shaped": shaped.model_dump(),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(ask(*sys.argv[1:])))
