"""Lists in pages: all pages of one list show the same moment, as long as the server remembers it."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence

from tests.fakes.kubernetes.errors import ApiError
from tests.fakes.kubernetes.objects import Objects
from tests.fakes.kubernetes.schemas import Object


class Pages:
    """What is left of lists that were begun."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._left: dict[str, tuple[int, Sequence[Object]]] = {}

    def first(self, items: Sequence[Object], version: int, limit: int) -> Object:
        """Return the first page of a list, all of it when there is no limit."""
        return self._page(items, version, limit)

    def go_on(self, token: str, limit: int) -> Object:
        """Return the next page. Raises ApiError 410 when what it goes on from is not remembered."""
        version, items = self._left.pop(token, (0, ()))
        if version < self._objects.oldest_version:
            raise ApiError(410, "The provided continue parameter is too old to display a consistent list result.")
        return self._page(items, version, limit)

    def _page(self, items: Sequence[Object], version: int, limit: int) -> Object:
        now, left = (items, []) if not limit else (items[:limit], items[limit:])
        metadata: Object = {"resourceVersion": str(version)}
        if left:
            token = base64.b64encode(
                json.dumps({"rv": version, "start": left[0]["metadata"]["name"]}).encode()
            ).decode()
            self._left[token] = (version, left)
            metadata |= {"continue": token, "remainingItemCount": len(left)}
        return {"metadata": metadata, "items": list(now)}
