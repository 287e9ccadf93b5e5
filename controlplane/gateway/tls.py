"""TLS of both ports and towards engines, from files. TLS 1.2 and later, names and certificates always checked.

Files that are renewed where they lie, as cert-manager's are, are taken while the gateway serves: new handshakes show
the new certificate, connections that are open stay as they are.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path

from controlplane.domain.errors import InvalidInput, unreadable
from controlplane.gateway.settings import EngineTls, TlsFiles

_log = logging.getLogger(__name__)
LOOKED_EVERY_S = 10.0


def server_tls(files: TlsFiles | None) -> ssl.SSLContext | None:
    """Return what a port serves with; None is plain HTTP. Raises InvalidInput for files that cannot be used."""
    if files is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    _load_pair(context, files)
    return context


def client_tls(engines: EngineTls) -> ssl.SSLContext | None:
    """Return how engines are asked; None trusts whom the system trusts. Raises InvalidInput."""
    if engines.ca is None and engines.own is None:
        return None
    context = ssl.create_default_context() if engines.ca is None else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _load_client(context, engines)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class Renewed:
    """Says when the files of a context are others than those in use, and takes them where they can be used.

    `load` puts them into a context and raises InvalidInput; half of a pair is waited out.
    """

    def __init__(self, paths: Sequence[Path], load: Callable[[ssl.SSLContext], None]) -> None:
        self._paths, self._load = paths, load
        self._taken = self._tried = _written(paths)

    def take(self, context: ssl.SSLContext | None = None) -> bool:
        """Say whether there are new ones, which are in use then, in a context too. What is no use is logged once."""
        now = _written(self._paths)
        if now is None or now == self._taken:
            return False
        try:
            self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))  # a failure would leave the other one without a key
            if context is not None:
                self._load(context)
        except InvalidInput as error:
            if now != self._tried:
                _log.error("renewed TLS files are not taken, the former ones stay in use: %s", error)
            self._tried = now
            return False
        self._taken = self._tried = now
        _log.info("renewed TLS files are in use from now on")
        return True


def of_server(files: TlsFiles) -> Renewed:
    return Renewed((files.certificate, files.key), lambda context: _load_pair(context, files))


def of_client(engines: EngineTls) -> Renewed:
    """An authority that was trusted once is so until the process ends."""
    own = (engines.own.certificate, engines.own.key) if engines.own else ()
    return Renewed((*own, *([engines.ca] if engines.ca else [])), lambda context: _load_client(context, engines))


async def renewing(context: ssl.SSLContext, renewed: Renewed, *, every_s: float = LOOKED_EVERY_S) -> None:
    """Take renewed files into a context that is in use, for as long as this runs."""
    while True:
        await asyncio.sleep(every_s)
        renewed.take(context)


def _written(paths: Sequence[Path]) -> tuple[int, ...] | None:
    """Return when the files were written, by the file system; None while one is not there."""
    try:
        return tuple(path.stat().st_mtime_ns for path in paths)
    except OSError:
        return None


def _load_client(context: ssl.SSLContext, engines: EngineTls) -> None:
    ca, own = engines.ca, engines.own
    if ca is not None:
        _load(ca, lambda: context.load_verify_locations(ca))
    if own is not None:
        _load_pair(context, own)


def _load_pair(context: ssl.SSLContext, files: TlsFiles) -> None:
    _load(files.certificate, lambda: context.load_cert_chain(files.certificate, files.key, password=_no_passphrase))


def _no_passphrase() -> str:
    """Asked for by a key that has one; else OpenSSL would ask on the terminal."""
    raise OSError("the key has a passphrase")


def _load(path: Path, load: Callable[[], None]) -> None:
    try:
        load()
    except (OSError, ssl.SSLError) as error:
        raise InvalidInput(
            f"cannot use the certificate {path}",
            why=unreadable(error),
            allowed="a PEM file, and the key that belongs to it without a passphrase",
        ) from error
