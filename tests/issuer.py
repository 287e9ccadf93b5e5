"""An issuer of tokens of the tests' own: keys that can be rotated, published over HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from controlplane.domain.door.issuer import Issuer

ISS = "https://login.example"
AUDIENCE = "fleetune"


@cache
def rsa_key() -> rsa.RSAPrivateKey:
    """The one RSA key of the tests: making one takes a tenth of a second."""
    return rsa.generate_private_key(65537, 2048)


@dataclass
class TestIssuer:
    """Signs by its newest key. `fetched` counts questions for its keys; `down` answers them with 500."""

    __test__ = False

    keys: dict[str, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey] = field(default_factory=dict)
    published: list[dict[str, Any]] = field(default_factory=list)
    fetched: int = 0
    down: bool = False
    url: str = "http://127.0.0.1:1/jwks"
    made: int = 0

    def __post_init__(self) -> None:
        self.rotate()

    @property
    def newest(self) -> str:
        return list(self.keys)[-1]

    def rotate(self, *, keep_old: bool = True) -> None:
        """Sign by a new key from now on; publish the old ones too, or no more."""
        self.made += 1
        self.keys = {**(self.keys if keep_old else {}), f"key-{self.made}": ec.generate_private_key(ec.SECP256R1())}
        self.publish()

    def add_rsa(self) -> None:
        """Sign by an RSA key from now on."""
        self.keys = {**self.keys, "rsa": rsa_key()}
        self.publish()

    def publish(self) -> None:
        self.published = [jwk(name, key) for name, key in self.keys.items()]

    def jwks(self) -> bytes:
        return json.dumps({"keys": self.published}).encode()

    def token(self, now: datetime, *, headers: Mapping[str, Any] | None = None, **claims: Any) -> str:
        """Return a token that is good for a minute; a claim of None is left out."""
        at = now.timestamp()
        usual = {"iss": ISS, "aud": AUDIENCE, "sub": "ada", "exp": at + 60, "iat": at}
        given = {name: value for name, value in (usual | claims).items() if value is not None}
        key = self.keys[self.newest]
        algorithm = "RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256"
        return jwt.encode(given, key, algorithm, {"kid": self.newest, **(headers or {})})

    def described(self, **changes: Any) -> Issuer:
        """Return how the issuer is made known to an installation."""
        usual = {"name": "corp", "issuer": ISS, "audience": AUDIENCE, "jwks_url": self.url, "answer_within_s": 240}
        return Issuer(**(usual | changes))


def jwk(name: str, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> dict[str, Any]:
    """Return the public half as it is published."""
    if isinstance(key, rsa.RSAPrivateKey):
        shown = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    else:
        shown = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**shown, "kid": name, "use": "sig"}


@contextmanager
def serving_keys(issuer: TestIssuer) -> Iterator[TestIssuer]:
    """Publish an issuer's keys over HTTP on a free port."""

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.fetched += 1
            self.send_response(500 if issuer.down else 200)
            self.end_headers()
            self.wfile.write(issuer.jwks())

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    issuer.url = f"http://127.0.0.1:{server.server_address[1]}/jwks"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
