"""Which tokens are believed, and how often an issuer is asked."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.domain.door.identity import PriorityClass, Scope
from controlplane.domain.door.issuer import Issuer, TokenAlgorithm
from controlplane.domain.errors import FleetuneError, Forbidden, Refused, Unavailable
from controlplane.tokens.door import KeysNeeded, TokenDoor
from controlplane.tokens.key_set import ASKED_AT_MOST_EVERY_S
from tests.builders_serving import NOW
from tests.issuer import ISS, TestIssuer, rsa_key


class Setting:
    """A door, one issuer behind it, and a clock that stands still."""

    def __init__(self, **changes: Any) -> None:
        self.issuer = TestIssuer()
        self.at = 0.0
        self.door = TokenDoor([self.issuer.described(**changes)], self.fetch, lambda: self.at)

    def fetch(self, url: str, within_s: float) -> bytes:
        self.issuer.fetched += 1
        if self.issuer.down:
            raise Unavailable("no answer")
        return self.issuer.jwks()

    def refusal(self, token: str) -> FleetuneError:
        with pytest.raises((Refused, Unavailable)) as caught:
            self.door.check(token, NOW)
        return caught.value


def test_a_token_speaks_for_its_subject() -> None:
    setting = Setting()
    found = setting.door.check(setting.issuer.token(NOW), NOW)
    assert (found.name, found.tenant, found.scopes, found.models) == ("corp:ada", "default", (Scope.INFER,), ())


def test_rsa_signatures_are_checked_too() -> None:
    setting = Setting()
    setting.issuer.add_rsa()
    assert setting.door.check(setting.issuer.token(NOW), NOW).name == "corp:ada"


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://evil.example"},
        {"iss": ["a", "list"]},
        {"aud": "another"},
        {"aud": None},
        {"exp": None},
        {"exp": "soon"},
        {"exp": True},
        {"exp": 1e300},
        {"exp": NOW.timestamp() - 31},
        {"nbf": NOW.timestamp() + 31},
        {"iat": NOW.timestamp() + 31},
        {"sub": None},
        {"sub": ""},
        {"sub": "line\nbreak"},
        {"sub": "x" * 129},
    ],
)
def test_a_claim_that_is_wrong_is_refused(claims: dict[str, Any]) -> None:
    setting = Setting()
    try:
        token = setting.issuer.token(NOW, **claims)
    except TypeError:  # PyJWT itself makes no token of it
        body = {"iss": ISS, "aud": "fleetune", "sub": "ada", "exp": NOW.timestamp() + 60} | claims
        token = jwt.api_jws.encode(json.dumps(body).encode(), setting.issuer.keys["key-1"], "ES256", {"kid": "key-1"})
    assert isinstance(setting.refusal(token), Refused)


@pytest.mark.parametrize("claims", [{"exp": -29.0}, {"nbf": 29.0}, {"iat": 29.0}])
def test_clocks_may_differ_by_the_skew(claims: dict[str, Any]) -> None:
    setting = Setting()
    instants: dict[str, Any] = {name: NOW.timestamp() + by for name, by in claims.items()}
    assert setting.door.check(setting.issuer.token(NOW, **instants), NOW)


def test_a_token_that_was_believed_ends_with_its_time() -> None:
    setting = Setting()
    token = setting.issuer.token(NOW)
    assert setting.door.check(token, NOW + timedelta(seconds=89))
    with pytest.raises(Refused, match="expired"):
        setting.door.check(token, NOW + timedelta(seconds=90))


def segment(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize("algorithm", ["none", "None", "HS256", "HS512", "ES256K", "RS512", 5, None])
def test_other_ways_of_signing_are_refused(algorithm: object) -> None:
    """HS256 with the public key as the secret is the classic: the key is known to everybody."""
    setting = Setting()
    setting.issuer.add_rsa()
    public = rsa_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    claims = {"iss": ISS, "aud": "fleetune", "sub": "eve", "exp": NOW.timestamp() + 60}
    signed = f"{segment({'alg': algorithm, 'kid': 'rsa'})}.{segment(claims)}"
    mac = base64.urlsafe_b64encode(hmac.new(public, signed.encode(), hashlib.sha256).digest()).rstrip(b"=").decode()
    for signature in (mac, ""):
        assert isinstance(setting.refusal(f"{signed}.{signature}"), Refused)


def test_shared_secrets_and_keys_for_encryption_are_no_keys() -> None:
    setting = Setting()
    setting.issuer.published = [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "key-1", "alg": "HS256"},
        {**setting.issuer.published[0], "use": "enc"},
    ]
    assert isinstance(setting.refusal(setting.issuer.token(NOW)), Refused)


def test_a_key_is_used_only_for_what_it_is_published_for() -> None:
    setting = Setting(algorithms=tuple(TokenAlgorithm))
    setting.issuer.published = [{**setting.issuer.published[0], "alg": "ES384"}]
    assert isinstance(setting.refusal(setting.issuer.token(NOW)), Refused)


def test_a_changed_token_is_refused() -> None:
    setting = Setting()
    head, _, signature = setting.issuer.token(NOW).split(".")
    claims = {"iss": ISS, "aud": "fleetune", "sub": "root", "exp": NOW.timestamp() + 60}
    setting.refusal(f"{head}.{segment(claims)}.{signature}")


def test_a_rotated_key_is_fetched_when_its_first_token_comes() -> None:
    setting = Setting()
    assert setting.door.check(setting.issuer.token(NOW), NOW)
    setting.issuer.rotate()
    setting.at = ASKED_AT_MOST_EVERY_S
    assert setting.door.check(setting.issuer.token(NOW), NOW)
    assert setting.issuer.fetched == 2


def test_unknown_keys_make_one_question_in_ten_seconds() -> None:
    setting = Setting()
    assert setting.door.check(setting.issuer.token(NOW), NOW)
    for number in range(200):
        setting.refusal(setting.issuer.token(NOW, headers={"kid": f"made-up-{number}"}))
    assert setting.issuer.fetched == 1
    setting.at = ASKED_AT_MOST_EVERY_S
    setting.refusal(setting.issuer.token(NOW, headers={"kid": "made-up"}))
    assert setting.issuer.fetched == 2


def test_a_withdrawn_key_ends_with_the_next_look_though_its_token_was_believed() -> None:
    setting = Setting()
    token = setting.issuer.token(NOW)
    assert setting.door.check(token, NOW)
    setting.issuer.rotate(keep_old=False)
    setting.at = 300
    setting.door.check(token, NOW)  # the last time: with this request the issuer is asked
    setting.refusal(token)


def test_keys_outlive_their_issuer_for_a_while() -> None:
    setting = Setting()
    token = setting.issuer.token(NOW)
    assert setting.door.check(token, NOW)
    setting.issuer.down = True
    for setting.at in (300.0, 1800.0, 3599.0):
        assert setting.door.check(token, NOW)
    setting.at = 3600.0
    assert isinstance(setting.refusal(token), Unavailable)
    setting.issuer.down = False
    setting.at += ASKED_AT_MOST_EVERY_S
    assert setting.door.check(token, NOW)


def test_without_keys_nothing_is_said_but_that_they_are_needed() -> None:
    setting = Setting()
    with pytest.raises(KeysNeeded):
        setting.door.known(setting.issuer.token(NOW), NOW)
    assert setting.issuer.fetched == 0


@pytest.mark.parametrize("answer", [b"", b"[]", b'{"keys": 5}', b"{" * 5000, b'{"keys": [1, {}, {"kty": "EC"}]}'])
def test_what_is_no_jwks_opens_nothing(answer: bytes) -> None:
    issuer = TestIssuer()
    door = TokenDoor([issuer.described()], lambda url, within_s: answer, lambda: 0.0)
    with pytest.raises((Refused, Unavailable)):
        door.check(issuer.token(NOW), NOW)


@given(st.text(max_size=60) | st.tuples(*[st.binary(max_size=80)] * 3).map(lambda parts: ".".join(map(str, parts))))
@settings(max_examples=60, deadline=None)
def test_whatever_is_sent_is_refused_and_never_breaks_the_door(text: str) -> None:
    setting = Setting()
    assert isinstance(setting.refusal(text), Refused)
    deep = base64.urlsafe_b64encode(b"[" * 9000).decode()
    assert isinstance(setting.refusal(f"{deep}.{deep}.{text}"), Refused)


def test_claims_become_tenant_scopes_models_and_class() -> None:
    mapped: dict[str, Any] = {
        "tenant_claim": "org.id",
        "tenants": {"ACME Corp.": "acme"},
        "scope_claim": "https://claims.example/roles",
        "scopes": {"llm-user": Scope.INFER, "llm-ops": Scope.OPERATE},
        "models_claim": "models",
        "priority_claim": "tier",
        "priorities": {"gold": PriorityClass.VIP, "night": PriorityClass.BATCH},
    }
    setting = Setting(**mapped)
    claims: dict[str, Any] = {
        "org": {"id": ["ACME Corp."]},
        "https://claims.example/roles": ["llm-user", "llm-ops", "nothing"],
        "models": "chat small",
        "tier": ["night", "gold"],
    }
    found = setting.door.check(setting.issuer.token(NOW, **claims), NOW)
    assert (found.tenant, set(found.scopes)) == ("acme", {Scope.INFER, Scope.OPERATE})
    assert (found.models, found.priority) == (("chat", "small"), PriorityClass.VIP)
    for missing in ("org", "https://claims.example/roles", "models"):
        with pytest.raises(Forbidden):
            setting.door.check(setting.issuer.token(NOW, **{**claims, missing: None}), NOW)


@pytest.mark.parametrize("url", ["http://login.example/jwks", "file:///etc/passwd", "ftp://127.0.0.1/x", "jwks"])
def test_keys_come_over_https_or_from_this_machine(url: str) -> None:
    with pytest.raises(ValueError, match="https"):
        Issuer(name="corp", issuer=ISS, audience="x", jwks_url=url)


@pytest.mark.parametrize("algorithm", ["none", "HS256", "HS384", "HS512"])
def test_no_issuer_can_be_described_with_shared_secrets(algorithm: str) -> None:
    with pytest.raises(ValueError, match="algorithms"):
        TestIssuer().described(algorithms=[algorithm])
