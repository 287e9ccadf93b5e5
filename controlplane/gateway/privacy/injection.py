"""Asking whether a prompt tries to turn the model against its instructions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import aiohttp

from controlplane.domain.door.privacy import InjectionOptions
from controlplane.domain.door.screening import Found, holds_known_phrase


async def look_for_injection(
    texts: Sequence[str], options: InjectionOptions, session: aiohttp.ClientSession
) -> frozenset[Found]:
    """Return INJECTION when one of the texts is an attempt, UNCHECKED when the classifier did not say."""
    if options.url is None:
        return frozenset({Found.INJECTION}) if any(map(holds_known_phrase, texts)) else frozenset()
    try:
        async with asyncio.timeout(options.timeout_s):
            labels = await _classified(texts, options, options.url, session)
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError):
        return frozenset({Found.UNCHECKED})
    if len(labels) != len(texts):
        return frozenset({Found.UNCHECKED})
    return frozenset({Found.INJECTION}) if options.label in labels else frozenset()


async def _classified(
    texts: Sequence[str], options: InjectionOptions, url: str, session: aiohttp.ClientSession
) -> list[str]:
    """Return a label for each text, as vLLM's `/classify` gives them: `{"data": [{"label": ...}]}`."""
    async with session.post(url, json={"model": options.model, "input": list(texts)}) as response:
        answer: Any = await response.json(content_type=None)
    if response.status != 200 or not isinstance(answer, dict) or not isinstance(answer.get("data"), list):
        return []
    return [str(each.get("label")) for each in answer["data"] if isinstance(each, dict)]
