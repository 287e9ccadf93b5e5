"""What is asked of a target before a load test, so that bad input is one message instead of a run full of errors."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import httpx

from controlplane.domain.errors import Unavailable
from loadtests.loadtest import LoadTest
from loadtests.send.client.connection import trust
from loadtests.send.plan import parse_target
from loadtests.send.profiles import Profile

CONNECT_S = 5.0


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


def with_context(profile: Profile, test: LoadTest) -> Profile:
    """Return the profile with the context that the target says its model has, unless the profile states one."""
    if profile.max_model_len is not None:
        return profile
    return profile.evolve(max_model_len=context_tokens(test))


def context_tokens(test: LoadTest) -> int | None:
    """Return the context that `GET /v1/models` states for the model, as vLLM does; None where it states none."""
    target = parse_target(test.url)
    url = f"http{'s' if target.tls else ''}://{target.authority}{target.base_path}/models"
    headers = {"Authorization": f"Bearer {test.api_key}"} if test.api_key else {}
    verify = trust(target, test.ca_file) or True
    try:
        served = httpx.get(url, headers=headers, verify=verify, timeout=CONNECT_S, trust_env=False).json()["data"]
    except (httpx.HTTPError, ValueError, LookupError, TypeError):
        return None  # an OpenAI-compatible server need not answer this; the run itself will tell
    return _context_of(test.model, served)


def _context_of(model: str, served: Any) -> int | None:
    for each in served if isinstance(served, list) else ():
        if isinstance(each, dict) and each.get("id") == model and isinstance(each.get("max_model_len"), int):
            return int(each["max_model_len"])
    return None
