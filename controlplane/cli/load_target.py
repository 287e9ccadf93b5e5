"""What is asked of a target before a load test, so that bad input is one message instead of a run full of errors."""

from __future__ import annotations

import math
import socket
import ssl
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import httpx

from controlplane.domain.errors import InvalidInput, Unavailable
from loadtests.loadtest import LoadTest
from loadtests.send.client.connection import trust
from loadtests.send.plan import parse_target
from loadtests.send.profiles import Profile

CONNECT_S = 5.0
UNNAMED = "default"  # sent to a target that neither was given a model nor tells
LAPSE_HEADER = "X-Fleetune-Time-Lapse"  # of every answer of the emulator


def require_listener(test: LoadTest) -> None:
    """Raise Unavailable when nobody listens there, or TLS fails: a run of nothing but errors would say no more."""
    target = parse_target(test.url)
    tls = trust(target, test.ca_file)
    try:
        with socket.create_connection((target.host, target.port), timeout=CONNECT_S) as connection:
            if tls is not None:
                _shake_hands(connection, tls, target.host, test.url)
    except OSError as error:
        raise Unavailable(f"nobody answers at {test.url}", why=error.strerror or str(error)) from error


def _shake_hands(connection: socket.socket, tls: ssl.SSLContext, host: str, url: str) -> None:
    try:
        tls.wrap_socket(connection, server_hostname=host).close()
    except ssl.SSLCertVerificationError as error:
        why, allowed = error.verify_message, "--ca-file CERTIFICATES"
        raise Unavailable(f"the certificate of {url} is not trusted", why=why, allowed=allowed) from error
    except OSError as error:  # its SSLError is one
        why = getattr(error, "reason", None) or str(error)
        raise Unavailable(f"{url} does not speak TLS", why=why, allowed="http:// for a target without") from error


class Told(NamedTuple):
    """What a target says of itself; nothing where it does not."""

    contexts: Mapping[str, int | None]  # of each model it serves, tokens
    time_lapse: float | None  # emulated seconds per second; only the emulator says so


def as_told(profile: Profile, test: LoadTest) -> tuple[Profile, LoadTest]:
    """Return both with what the target knows better: its model's name and context, and how fast its time goes.

    A model named in the test is checked, the only one served is taken where none is. Raises InvalidInput.
    """
    told = ask(test)
    model = _served(test.model, told.contexts, test.url)
    named = replace(test, model=model, time_lapse=told.time_lapse or test.time_lapse)
    if profile.max_model_len is None:
        profile = profile.evolve(max_model_len=told.contexts.get(named.model))
    return profile, named


def ask(test: LoadTest) -> Told:
    """Ask the target for its models (`GET /v1/models`). An OpenAI-compatible server need not answer this."""
    target = parse_target(test.url)
    url = f"http{'s' if target.tls else ''}://{target.authority}{target.base_path}/models"
    headers = {"Authorization": f"Bearer {test.api_key}"} if test.api_key else {}
    verify = trust(target, test.ca_file) or True
    try:
        answer = httpx.get(url, headers=headers, verify=verify, timeout=CONNECT_S, trust_env=False)
    except httpx.HTTPError:
        return Told({}, None)
    return Told(_contexts(answer), _lapse(answer.headers.get(LAPSE_HEADER)))


def _served(model: str, served: Mapping[str, int | None], url: str) -> str:
    if not served or model in served:
        return model or UNNAMED
    if not model and len(served) == 1:
        return next(iter(served))
    names = ", ".join(sorted(served)[:8])
    if not model:
        raise InvalidInput(f"{url} serves {len(served)} models", allowed=f"--model, one of {names}")
    raise InvalidInput(f"{url} does not serve model '{model}'", allowed=names)


def _contexts(answer: httpx.Response) -> Mapping[str, int | None]:
    try:
        served = answer.json()["data"]
    except (ValueError, LookupError, TypeError):
        return {}
    rows = [each for each in served if isinstance(each, dict)] if isinstance(served, list) else []
    return {str(row["id"]): _whole(row.get("max_model_len")) for row in rows if isinstance(row.get("id"), str)}


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _lapse(text: str | None) -> float | None:
    try:
        factor = float(text or "")
    except ValueError:
        return None
    return factor if math.isfinite(factor) and factor > 0 else None
