"""Fetching an issuer's keys over HTTP: soon, of bounded size, from exactly where it was said."""

from __future__ import annotations

import time

import httpx

from controlplane.domain.errors import Unavailable

LARGEST_BYTES = 1 << 20


def fetch_keys(url: str, within_s: float = 5.0) -> bytes:
    """Return what is at the URL. Raises Unavailable: no answer, a status other than 200, redirected, or too large."""
    deadline = time.monotonic() + within_s
    try:
        with httpx.stream("GET", url, timeout=within_s, follow_redirects=False, trust_env=False) as answer:
            if answer.status_code != 200:
                raise _unavailable(f"it answered {answer.status_code}")
            return _bounded(answer, deadline)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise _unavailable(str(error) or type(error).__name__) from error


def _bounded(answer: httpx.Response, deadline: float) -> bytes:
    found = b""
    for piece in answer.iter_bytes():
        found += piece
        if len(found) > LARGEST_BYTES or time.monotonic() > deadline:
            raise _unavailable("it sends too much, or too slowly")
    return found


def _unavailable(why: str) -> Unavailable:
    return Unavailable("the issuer's keys cannot be fetched", why=why)
