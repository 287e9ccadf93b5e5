"""TLS of both ports and towards engines, from files. TLS 1.2 and later, names and certificates always checked."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

from controlplane.domain.errors import InvalidInput, unreadable
from controlplane.gateway.settings import EngineTls, TlsFiles


def server_tls(files: TlsFiles | None) -> ssl.SSLContext | None:
    """Return what a port serves with; None is plain HTTP. Raises InvalidInput for files that cannot be used."""
    if files is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    _load(files.certificate, lambda: context.load_cert_chain(files.certificate, files.key))
    return context


def client_tls(engines: EngineTls) -> ssl.SSLContext | None:
    """Return how engines are asked; None trusts whom the system trusts. Raises InvalidInput."""
    ca, own = engines.ca, engines.own
    if ca is None and own is None:
        return None
    context = ssl.create_default_context()
    if ca is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _load(ca, lambda: context.load_verify_locations(ca))
    if own is not None:
        _load(own.certificate, lambda: context.load_cert_chain(own.certificate, own.key))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _load(path: Path, load: Callable[[], None]) -> None:
    try:
        load()
    except (OSError, ssl.SSLError) as error:
        raise InvalidInput(
            f"cannot use the certificate {path}",
            why=unreadable(error),
            allowed="a PEM file, and the key that belongs to it without a passphrase",
        ) from error
