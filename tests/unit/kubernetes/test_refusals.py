"""What a server says, and what it means: in objects and in plain text, as the real one does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

from controlplane.adapters.fleet_kubernetes.refusals import Asked, Expired, refusal
from controlplane.domain.errors import FleetuneError, Forbidden, InvalidInput, NotFound, Unavailable

ASKED = Asked("patch", "deployments", "deployments ns/one")


def said(status: int, body: str, reason: str = "Reason") -> FleetuneError:
    return refusal(ApiException(status=status, reason=reason, body=body), ASKED)


def told(status: int, message: str, **more: Any) -> FleetuneError:
    return said(status, json.dumps({"kind": "Status", "message": message, "code": status, **more}))


def test_plain_text_of_a_server_is_said_as_it_is() -> None:
    limited = said(429, "Too many requests, please try again later.\n")
    assert isinstance(limited, Unavailable)
    assert "Too many requests, please try again later." in str(limited)
    assert isinstance(said(404, "404 page not found\n"), NotFound)


def test_a_namespace_that_is_not_there_is_no_kind_that_is_not_there() -> None:
    missing = told(404, 'namespaces "ns" not found', reason="NotFound")
    assert isinstance(missing, Unavailable)
    assert "kubectl create namespace ns" in str(missing)
    assert isinstance(told(404, 'deployments.apps "one" not found', reason="NotFound"), NotFound)


@pytest.mark.parametrize("body", ["", "<html>\n<body>a proxy</body>\n</html>", "[1]", "x" * 5000], ids=len)
def test_a_body_that_says_nothing_is_told_by_its_code(body: str) -> None:
    assert "502 Bad Gateway" in str(said(502, body, "Bad Gateway")) or "[1]" in str(said(502, body))


def test_a_version_from_before_the_store_was_put_back_is_listed_anew() -> None:
    causes = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
    with pytest.raises(Expired):
        told(504, "Timeout: Too large resource version: 9, current: 5", details={"causes": causes})


@pytest.mark.parametrize(
    ("message", "kind", "says"),
    [
        (
            "exceeded quota: few, requested: pods=1, used: pods=1",
            Unavailable,
            "a larger ResourceQuota",
        ),
        ("status unknown for quota: few, resources: pods", Unavailable, "a larger ResourceQuota"),
        ('User "a" cannot create resource "deployments" in API group "apps"', Forbidden, "verb create on deployments"),
        ('admission webhook "a.b" denied the request: not here', InvalidInput, "policies of the cluster"),
        ("[maximum cpu usage per Container is 1, but limit is 2]", InvalidInput, "policies of the cluster"),
    ],
)
def test_one_code_means_four_things(message: str, kind: type[FleetuneError], says: str) -> None:
    found = told(403, f'deployments.apps "one" is forbidden: {message}')
    assert isinstance(found, kind)
    assert says in str(found)


def test_a_webhook_that_does_not_answer_is_no_fault_of_what_was_sent() -> None:
    assert isinstance(told(500, 'Internal error occurred: failed calling webhook "a.b": timeout'), Unavailable)
    assert isinstance(told(400, 'admission webhook "a.b" denied the request: no'), InvalidInput)
