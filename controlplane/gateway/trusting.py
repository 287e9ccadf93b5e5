"""Trusting the tokens of issuers. What that needs is loaded only where there are some: PyJWT and httpx are 20 MiB."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from controlplane.domain.door.issuer import Issuer

if TYPE_CHECKING:
    from controlplane.gateway.stages.tokens import Tokens


def trust(issuers: Sequence[Issuer]) -> Tokens | None:
    """Return what finds whom a token speaks for; None when nobody's tokens are taken."""
    if not issuers:
        return None
    from controlplane.gateway.stages.tokens import Tokens
    from controlplane.tokens.door import TokenDoor
    from controlplane.tokens.fetch import fetch_keys

    return Tokens(TokenDoor(issuers, fetch_keys, time.monotonic))
