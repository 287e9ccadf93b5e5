"""What goes wrong on request: rights taken away, add-ons missing, an overloaded or absent server, cut watches."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any, NamedTuple

from tests.fakes.kubernetes.errors import ApiError, no_such_path
from tests.fakes.kubernetes.schemas import Resource

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


class Call(NamedTuple):
    """One request as rights are said: `patch` on `deployments` with no subresource."""

    verb: str
    group: str
    resource: str
    subresource: str
    namespace: str
    agent: str = ""  # who asks, by its User-Agent
    name: str = ""


class Faults:
    """Asked before every request. `calls` are all requests since the last `calls.clear()`."""

    def __init__(self) -> None:
        self.calls: deque[Call] = deque(maxlen=100_000)
        self.delay_s = 0.0
        self.retry_after_s = 1  # what goes with 429
        self.watch_epoch = 0  # a watch ends when it has changed since
        self.token: str | None = None  # the only one that is known; None: nobody is asked for one
        self.no_dry_run: set[str] = set()  # kinds with a webhook that may not be asked without storing
        self.bookmark_s = 0.5  # how often a quiet watch hears one: a real server takes a minute
        self.late: dict[str, float] = {}  # by plural: how many seconds later than others its watches are told
        self._answers: deque[tuple[int, str, str]] = deque()
        self._forbidden: set[tuple[str, str]] = set()
        self._missing: set[str] = set()
        self._lock = threading.Lock()

    def forbid(self, verb: str, resource: str) -> None:
        """Take a right away: `forbid("patch", "deployments")`, or of a subresource: `pods/log`."""
        self._forbidden.add((verb, resource))

    def reviewed(self, review: dict[str, Any]) -> dict[str, Any]:
        """Say whether somebody may do what they ask about; everybody may ask."""
        asked = review["spec"]["resourceAttributes"]
        sub = asked.get("subresource")
        named = asked["resource"] + (f"/{sub}" if sub else "")
        return {**review, "status": {"allowed": (asked["verb"], named) not in self._forbidden}}

    def uninstall(self, group: str) -> None:
        """Let a group of custom kinds be unknown: its definitions are not installed."""
        self._missing.add(group)

    @property
    def missing(self) -> frozenset[str]:
        """Groups that are not installed."""
        return frozenset(self._missing)

    def answer_next(self, *codes: int, agent: str = "", verb: str = "") -> None:
        """Answer the next requests (of one user agent and with one verb, if given) with these codes: 429 or 5xx."""
        with self._lock:
            self._answers.extend((code, agent, verb) for code in codes)

    def drop_watches(self) -> None:
        """End every running watch, without a word."""
        self.watch_epoch += 1

    def clear(self) -> None:
        self._forbidden.clear()
        self._missing.clear()
        self.no_dry_run.clear()
        self.late.clear()
        self._answers.clear()
        self.delay_s = 0.0
        self.token = None

    def check_token(self, given: str) -> None:
        """Refuse a request without the one token that is known. Raises ApiError."""
        if self.token is not None and given != f"Bearer {self.token}":
            raise ApiError(401, "Unauthorized")

    def check_dry_run(self, kind: str) -> None:
        """Refuse to try what a webhook would be asked about that has side effects. Raises ApiError."""
        if kind in self.no_dry_run:
            raise ApiError(400, 'admission webhook "inject.example.com" does not support dry run')

    def before(self, call: Call, resource: Resource) -> None:
        """Note a call, and refuse it when it is to be refused. Raises ApiError."""
        self.calls.append(call)
        if self.delay_s:
            time.sleep(self.delay_s)
        with self._lock:
            code = self._answers.popleft()[0] if self._answers and _is_meant(self._answers[0], call) else None
        if code is not None:
            raise self._asked_for(code)
        if resource.group in self._missing:
            raise no_such_path()
        named = call.resource + (f"/{call.subresource}" if call.subresource else "")
        if (call.verb, named) in self._forbidden:
            raise _forbidden(call, named)

    def _asked_for(self, code: int) -> ApiError:
        if code != 429:
            return ApiError(code, "the server is asked to say so")
        said = "Too many requests, please try again later."  # by API priority and fairness, before the API proper
        return ApiError(code, said, headers={"Retry-After": str(self.retry_after_s)}, plain=True)


def _is_meant(answer: tuple[int, str, str], call: Call) -> bool:
    _, agent, verb = answer
    return agent in ("", call.agent) and verb in ("", call.verb)


def _forbidden(call: Call, named: str) -> ApiError:
    full = call.resource + (f".{call.group}" if call.group else "")
    where = f' in the namespace "{call.namespace}"' if call.namespace else " at the cluster scope"
    what = f'{full} "{call.name}"' if call.name else full
    return ApiError(
        403,
        f'{what} is forbidden: User "fleetune" cannot {call.verb} resource "{named}" '
        f'in API group "{call.group}"{where}',
    )
