"""Cross-origin requests as vLLM's server answers them: Starlette's CORSMiddleware with vLLM's defaults (everything)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from controlplane.domain.base import Value

_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
_SAFE_HEADERS = ("Accept", "Accept-Language", "Content-Language", "Content-Type")
_REMEMBERED_S = "600"


class Preflight(NamedTuple):
    """The answer to a preflight: 200, or 400 with what is not allowed."""

    status: int
    text: str
    headers: dict[str, str]


class Cors(Value):
    """`--allowed-origins`, `--allowed-methods`, `--allowed-headers` and `--allow-credentials`."""

    origins: tuple[str, ...] = ("*",)
    methods: tuple[str, ...] = ("*",)
    headers: tuple[str, ...] = ("*",)
    credentials: bool = False

    def of_answer(self, asked: Mapping[str, str]) -> dict[str, str]:
        """Return the headers that let a browser's page read an answer; none when no page asks."""
        origin = asked.get("Origin")
        if origin is None:
            return {}
        shown = {"Access-Control-Allow-Credentials": "true"} if self.credentials else {}
        if "*" in self.origins and "Cookie" not in asked:
            return shown | {"Access-Control-Allow-Origin": "*"}
        if "*" in self.origins or origin in self.origins:
            shown |= {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}
        return shown

    def of_preflight(self, asked: Mapping[str, str]) -> Preflight:
        """Answer what a browser asks before it sends a request of another origin."""
        wrong = self._wrong_with(asked)
        headers = self.of_answer(asked) | {
            "Access-Control-Max-Age": _REMEMBERED_S,
            "Access-Control-Allow-Methods": ", ".join(self._methods()),
        }
        if wanted := asked.get("Access-Control-Request-Headers"):
            headers["Access-Control-Allow-Headers"] = wanted if "*" in self.headers else ", ".join(self._headers())
        if wrong:
            return Preflight(400, "Disallowed CORS " + ", ".join(wrong), headers)
        return Preflight(200, "OK", headers)

    def _wrong_with(self, asked: Mapping[str, str]) -> list[str]:
        given = [h.strip().lower() for h in asked.get("Access-Control-Request-Headers", "").split(",") if h.strip()]
        allowed = {header.lower() for header in self._headers()}
        checks: dict[str, Any] = {
            "origin": {"*", asked.get("Origin")} & set(self.origins),
            "method": asked.get("Access-Control-Request-Method") in self._methods(),
            "headers": "*" in self.headers or allowed.issuperset(given),
        }
        return [name for name, holds in checks.items() if not holds]

    def _methods(self) -> tuple[str, ...]:
        return _METHODS if "*" in self.methods else self.methods

    def _headers(self) -> tuple[str, ...]:
        return tuple(sorted({*_SAFE_HEADERS, *self.headers}))


def is_preflight(method: str, asked: Mapping[str, str]) -> bool:
    return method == "OPTIONS" and "Access-Control-Request-Method" in asked
