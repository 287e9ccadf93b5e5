"""What engines may be told to fetch: pictures, sounds, videos and files by URL. Pure.

An engine fetches what a client names, from where the engine stands: its own ports, its neighbours', a cloud's metadata.
Engines and this file need not read an odd URL alike, so one that is not written plainly is not allowed at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, NamedTuple

from controlplane.domain.door.top_level_names import TOP_LEVEL_NAMES

MEDIA_KEYS = frozenset({"image_url", "audio_url", "video_url", "file_url"})
_SOURCE = "source"  # Anthropic's: {"type": "url", "url": ...}
_DATA, _FORMAT, _NAMED_FORMATS = "data", "data_format", ("url", "path")  # of vLLM's IO processors, by `/pooling`
_NOT_FETCHED = frozenset({"tools", "functions", "metadata", "response_format", "structured_outputs"})
_TOOL_USE = "tool_use"  # Anthropic's: what the model gave a tool

_PLAIN = re.compile(r"https?://([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?(?:[/?#].*)?", re.DOTALL)
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_WITHIN = frozenset({"arpa", "onion"})  # of the names that public ones end in, where no pictures are
_HANDED_OUT = IPv6Network("2000::/3")  # IANA's global unicast; all else is mapped, translated or some network's own
_CARRIES_IPV4 = (IPv6Network("2002::/16"), IPv6Network("2001::/32"))  # 6to4, Teredo
_CLOUDS_OWN = (IPv4Network("192.0.0.0/24"), IPv4Network("168.63.129.16/32"))
"""Public by their numbers, and yet a host's own: RFC 6890's block, where Oracle's metadata are; Azure's."""


class Media(NamedTuple):
    """A URL in a request, and the field it stands in."""

    key: str
    url: str


def media_of(fields: Mapping[str, Any]) -> Iterator[Media]:
    """Yield every URL that an engine would fetch. Raises RecursionError for what is nested too deeply."""
    for name, value in fields.items():
        if name not in _NOT_FETCHED:
            yield from _media(name, value)


def may_be_fetched(url: str, hosts: Sequence[str] | None) -> bool:
    """Say whether an engine may be sent there: `data:` always, else by http or https to one of the hosts.

    A host may be `*.example.com`, all below it, or `*`, any. None: any that is not evidently some network's own; what
    a public name resolves to is not looked at.
    """
    if url[:5].lower() == "data:":
        return True
    plain = _PLAIN.fullmatch(url)
    if plain is None:
        return False
    host = plain[1].lower().rstrip(".")
    return _is_public(host) if hosts is None else any(_is_one_of(host, each.lower()) for each in hosts)


def _media(name: str, value: Any) -> Iterator[Media]:
    named = [Media(name, url) for url in _urls(name, value)]
    yield from named
    if isinstance(value, dict) and not named:
        yield from _within(value)
    elif isinstance(value, list):
        for each in value:
            if isinstance(each, dict | list):
                yield from _media("", each)


def _urls(name: str, value: Any) -> Iterator[str]:
    """Yield what a field of this name says by itself is to be fetched."""
    if name in MEDIA_KEYS or name == _SOURCE:
        given = value.get("url") if isinstance(value, dict) else None if name == _SOURCE else value
        yield from (each for each in (given if isinstance(given, list) else [given]) if isinstance(each, str))


def _within(value: Mapping[str, Any]) -> Iterator[Media]:
    if value.get(_FORMAT) in _NAMED_FORMATS and isinstance(value.get(_DATA), str):
        yield Media(_DATA, value[_DATA])
    for key, each in value.items():
        if not (key == "input" and value.get("type") == _TOOL_USE):
            yield from _media(key, each)


def _is_one_of(host: str, allowed: str) -> bool:
    return allowed in ("*", host) or (allowed.startswith("*.") and host.endswith(allowed[1:]))


def _is_public(host: str) -> bool:
    if host.startswith("["):
        return _is_public_address(host[1:-1])
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):  # resolvers take 127.1, 0x7f.1 and 2130706433 for addresses too
        return _is_public_address(host)
    return len(labels) > 1 and labels[-1] in TOP_LEVEL_NAMES and labels[-1] not in _WITHIN


def _is_public_address(text: str) -> bool:
    try:
        address: IPv4Address | IPv6Address = ip_address(text)
    except ValueError:
        return False
    if isinstance(address, IPv4Address):
        own = any(address in network for network in _CLOUDS_OWN)
    else:
        own = address not in _HANDED_OUT or any(address in network for network in _CARRIES_IPV4)
    return not own and address.is_global and not address.is_multicast
