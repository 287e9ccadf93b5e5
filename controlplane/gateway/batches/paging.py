"""Lists of files and batches, a page at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiohttp import web

_PAGE = 20
_LONGEST_PAGE = 100
_LONGEST_NUMBER = 10


def page_of(request: web.Request, items: Sequence[tuple[str, dict[str, Any]]]) -> web.Response:
    """Return a list as OpenAI pages it: `limit` items behind the one named `after`."""
    asked = request.query.get("limit", str(_PAGE))
    counted = asked.isascii() and asked.isdigit() and len(asked) < _LONGEST_NUMBER
    limit = max(1, min(_LONGEST_PAGE, int(asked))) if counted else _PAGE
    after = request.query.get("after")
    names = [name for name, _ in items]
    start = names.index(after) + 1 if after in names else 0
    page = items[start : start + limit]
    return web.json_response(
        {
            "object": "list",
            "data": [shown for _, shown in page],
            "first_id": page[0][0] if page else None,
            "last_id": page[-1][0] if page else None,
            "has_more": start + limit < len(items),
        }
    )
