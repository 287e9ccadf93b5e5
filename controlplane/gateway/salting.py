"""Keeping the prefixes of tenants apart at engines, which share what they have of a prompt's beginning with everybody.

Who guesses how somebody else's prompt begins can tell by the time to a first token whether the guess is in the cache.
vLLM shares nothing between requests of different `cache_salt`, so each tenant gets one of its own. The tenant
`default`, which everybody is who has no other, gets none: one tenant alone goes on sharing.
"""

from __future__ import annotations

from controlplane.domain.door.identity import DEFAULT_TENANT
from controlplane.gateway.call import Call
from controlplane.gateway.fingerprint import Fingerprints
from controlplane.gateway.openai_errors import RequestRefused
from controlplane.gateway.pools import Route

SALTED_PATHS = frozenset(
    {"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/invocations"}
    | {"/v1/embeddings", "/pooling", "/classify", "/v1/score", "/score", "/v1/rerank", "/v2/rerank", "/rerank"}
)
"""Whose bodies have the field in vLLM (`/v1/messages` since pull request 49498; before, it is ignored there)."""


def kept_apart(call: Call, route: Route, fingerprints: Fingerprints) -> Call:
    """Return the call with its tenant's salt, and its prompt's blocks shared with nobody else's.

    A caller's own salt goes into it: it separates further, and never joins. Raises RequestRefused (400) for one that
    is none, which would be replaced unseen.
    """
    tenant = DEFAULT_TENANT if call.key is None else call.key.tenant
    if tenant == DEFAULT_TENANT or route.options.share_prefixes or call.path not in SALTED_PATHS:
        return call
    if call.cache_salt is not None:  # of the model that this one answers for
        return call
    own = call.own_salt
    if own is not None and not (isinstance(own, str) and own):
        raise RequestRefused(400, "`cache_salt` must be a text.", code="invalid_cache_salt", param="cache_salt")
    salt = fingerprints.cache_salt(tenant, own)
    if not route.salted:
        return call._replace(cache_salt=salt)
    return call._replace(cache_salt=salt, prompt=fingerprints.of_tenant(call.prompt, tenant))
