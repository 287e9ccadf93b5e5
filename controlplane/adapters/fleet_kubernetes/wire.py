"""Requests to one API server: with credentials that last, and with patience for a server that is overloaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from controlplane.domain.errors import Unavailable

AGENT = "fleetune"
JSON = "application/json"
_TIMEOUT_S = 15.0
_LONGEST_PAUSE_S = 2.0
"""What an overloaded server asks for is waited for up to this; beyond it nothing is asked until then."""
_LONGEST_QUIET_S = 30.0
_UNKNOWN = 401

Reopen = Callable[[], client.ApiClient]
"""Reads the credentials anew, from the place they were first read from."""


class Question(NamedTuple):
    """One request. `kind` is what its body is."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None
    query: Mapping[str, str] = MappingProxyType({})
    kind: str = JSON


class Wire:
    """One API server. `reopen`, where there is one, is called when the server does not know our credentials any more:
    a token in a file or of a plug-in lasts an hour or so, and not every one says for how long.
    """

    def __init__(
        self,
        api: client.ApiClient,
        *,
        reopen: Reopen | None,
        sleep: Callable[[float], None],
        steady: Callable[[], float],
    ) -> None:
        self._reopen, self._sleep, self._steady = reopen, sleep, steady
        self._quiet_until_s = steady()
        self._api = _named(api)

    @property
    def host(self) -> str:
        return str(self._api.configuration.host)

    def content(self, question: Question) -> bytes:
        """Return what a request is answered. Raises ApiException when that is a refusal."""
        raw = self.called(question)
        content: bytes = raw.read() if not raw.data else raw.data
        require_success(raw, content)
        return content

    def called(self, question: Question) -> Any:
        """Ask, and once more when an overloaded server says how soon: it did nothing then. Raises Unavailable."""
        self._require_welcome()
        answer = self._known(question)
        pause_s = _pause_s(answer)
        if pause_s is None:
            return answer
        if pause_s > _LONGEST_PAUSE_S:
            self._quiet_until_s = self._steady() + min(pause_s, _LONGEST_QUIET_S)
            return answer
        _let_go(answer)
        self._sleep(pause_s)
        return self._known(question)

    def _known(self, question: Question) -> Any:
        """Ask, and once more with credentials read anew when the server does not know these."""
        asked_with = self._api
        answer = self._called_once(question)
        if answer.status != _UNKNOWN or self._reopen is None:
            return answer
        _let_go(answer)
        if asked_with is self._api:  # else another thread has just read them
            self._api = _named(self._reopen())
        return self._called_once(question)

    def _called_once(self, question: Question) -> Any:
        verb, url, headers, content, parts = self._api.param_serialize(
            question.method,
            question.path,
            query_params=list(question.query.items()),
            header_params={"Accept": JSON, "Content-Type": question.kind},
            body=question.body,
            auth_settings=["BearerToken"],
        )
        waits = (_TIMEOUT_S, _TIMEOUT_S)
        return self._api.call_api(verb, url, headers, content, parts, _request_timeout=waits).response

    def _require_welcome(self) -> None:
        left_s = self._quiet_until_s - self._steady()
        if left_s > 0:
            why = f"it asks to be left alone for {left_s:.0f} s more"
            raise Unavailable(f"the API server {self.host} is overloaded", why=why)


def require_success(raw: Any, content: bytes) -> None:
    """Raise ApiException for a refusal."""
    if not 200 <= raw.status <= 299:
        raise ApiException(status=raw.status, reason=raw.reason, body=content.decode(errors="replace"))


def bear_silence(raw: Any, seconds: float) -> None:
    """Let the rest of an answer that has begun come in pieces so many seconds apart."""
    sock = getattr(raw.connection, "sock", None)
    if sock is not None:  # else it is over: its server closed the connection
        sock.settimeout(seconds)


def lines(raw: Any) -> Iterator[bytes]:
    """Yield the lines of an answer as they come."""
    left = b""
    for part in raw.stream(amt=None):
        *whole, left = (left + part).split(b"\n")
        yield from (line for line in whole if line.strip())


def _named(api: client.ApiClient) -> client.ApiClient:
    api.user_agent = AGENT  # so that a server's audit log tells who asked
    return api


def _let_go(answer: Any) -> None:
    answer.drain_conn()
    answer.release_conn()


def _pause_s(answer: Any) -> float | None:
    """Return how soon an overloaded server may be asked again, None when it is not."""
    said = answer.headers.get("Retry-After", "")
    return float(said) if answer.status in (429, 503) and said.isdigit() else None
