"""The command line as a client of the API: over HTTP when a server is named, else in-process on the data folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controlplane.domain.errors import Conflict, FleetuneError, InvalidInput, NotFound, Refused, Unavailable
from controlplane.host.addresses import is_loopback, is_tls

if TYPE_CHECKING:
    import httpx
    from fastapi import FastAPI

TIMEOUT_S = 30.0
_URLS = "http://HOST:PORT or https://HOST:PORT"
_RUNNING = "an API that runs; `fleetune doctor` on its host says what is wrong"
Sender = Callable[[str, str, Mapping[str, Any]], "httpx.Response"]
Glance = Callable[[str, Mapping[str, Any]], Any]
"""Returns the JSON of a GET without asking an API; None where one must be asked."""
ERRORS: dict[int, type[FleetuneError]] = {401: Refused, 403: Refused, 404: NotFound, 409: Conflict, 503: Unavailable}


class ApiClient:
    """Calls `/api/v1`. Every refusal is raised as the domain's error with the server's what, why and allowed."""

    def __init__(self, *, url: str | None, key: str | None, data_dir: Path, timeout_s: float = TIMEOUT_S) -> None:
        self.folder = None if url else data_dir
        """The data folder that is read without a server; None where a server answers."""
        self._base = url.rstrip("/") if url else "http://in-process"
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._timeout_s = timeout_s
        self._send: Sender = _over_http if url else _in_process(data_dir)
        self._glance: Glance = _nothing if url else _at_a_glance(data_dir)

    def get(self, path: str, **params: Any) -> Any:
        """Return the JSON of a GET; parameters that are None are left out."""
        given = {name: value for name, value in params.items() if value is not None}
        seen = self._glance(path, given)
        return self._call("GET", path, params=given) if seen is None else seen

    def post(self, path: str, body: Any = None) -> Any:
        return self._call("POST", path, json=body if body is not None else {})

    def put(self, path: str, body: Any) -> Any:
        return self._call("PUT", path, json=body)

    def delete(self, path: str) -> Any:
        return self._call("DELETE", path)

    def _call(self, method: str, path: str, **options: Any) -> Any:
        import httpx  # an eighth of what a command may cost: not for those that need no answer of an API

        asked = options | {"headers": self._headers, "timeout": self._timeout_s}
        try:
            response = self._send(method, f"{self._base}/api/v1{path}", asked)
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise InvalidInput(f"{self._base} is no URL of an API", why=str(error), allowed=_URLS) from error
        except httpx.HTTPError as error:
            why = str(error) or type(error).__name__
            raise Unavailable(f"no answer from {self._base}", why=why, allowed=_RUNNING) from error
        if response.is_error:
            raise _error(response)
        return response.json() if response.content else None


def _over_http(method: str, url: str, options: Mapping[str, Any]) -> httpx.Response:
    """Send; a proxy of the environment is only asked for servers that are not on this machine."""
    import httpx

    return httpx.request(method, url, trust_env=not is_loopback(httpx.URL(url).host), verify=is_tls(url), **options)


def _nothing(_path: str, _params: Mapping[str, Any]) -> None:
    return None


def _at_a_glance(data_dir: Path) -> Glance:
    """Return what reads the data folder's store for answers that are values as they are stored."""
    from controlplane import settings as installation
    from controlplane.wiring.at_a_glance import answer

    url = installation.load(data_dir.resolve()).database
    return lambda path, params: answer(url, path, params)


def _in_process(data_dir: Path) -> Sender:
    """Return calls of an app of our own on the data folder, which needs no server, and no key: who reads it may act.

    The app is made by the first call.
    """

    @cache
    def app() -> FastAPI:
        from controlplane import settings as installation
        from controlplane.wiring import http_api

        return http_api.build_app(installation.load(data_dir.resolve()), caller="cli")

    return lambda method, url, options: _ask(app(), method, url, options)


def _ask(app: FastAPI, method: str, url: str, options: Mapping[str, Any]) -> httpx.Response:
    import asyncio

    import httpx

    from controlplane.api.app import answer_for

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport) as client:
            return await client.request(method, url, **options)

    answer_for(app, url.partition("/api/v1")[2])
    return asyncio.run(ask())


def _error(response: httpx.Response) -> FleetuneError:
    kind = ERRORS.get(response.status_code, Unavailable if response.is_server_error else InvalidInput)
    try:
        problem = response.json()
    except ValueError:
        return kind(f"HTTP {response.status_code} from {response.url.host}")
    what = problem.get("what") or problem.get("detail") or problem.get("title") or f"HTTP {response.status_code}"
    return kind(what, why=problem.get("why") or "", allowed=problem.get("allowed") or "")
