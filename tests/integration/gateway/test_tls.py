"""TLS on both ports, and certificates shown to engines, from files."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web

from controlplane.adapters.gateway.traffic import GatewayTraffic
from controlplane.domain.door.routing import Backend
from controlplane.domain.errors import InvalidInput
from controlplane.gateway.__main__ import main
from controlplane.gateway.settings import EngineTls, TlsFiles
from tests.integration.gateway.harness import CHAT, chat, gateway, revision, table
from tests.integration.gateway.upstream import Upstream, streaming, upstream


@dataclass(frozen=True)
class Files:
    """A certificate authority with what it signed: for this machine's servers, and for the gateway as a client."""

    ca: Path
    server: TlsFiles
    client: TlsFiles


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder, authority = tmp_path_factory.mktemp("tls"), trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    server, client = authority.issue_cert("127.0.0.1"), authority.issue_cert("gateway@fleetune.example")
    return Files(folder / "ca.pem", _written(server, folder / "server"), _written(client, folder / "client"))


def _written(certificate: trustme.LeafCert, stem: Path) -> TlsFiles:
    for number, blob in enumerate(certificate.cert_chain_pems):
        blob.write_to_path(str(stem.with_suffix(".pem")), append=number > 0)
    certificate.private_key_pem.write_to_path(str(stem.with_suffix(".key")))
    return TlsFiles(certificate=stem.with_suffix(".pem"), key=stem.with_suffix(".key"))


def trusting(files: Files) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(files.ca))


async def test_both_ports_serve_tls_and_the_controller_pushes_through_it(tmp_path: Path, files: Files) -> None:
    secured: dict[str, Any] = {"tls": files.server, "admin_tls": files.server}
    async with gateway(tmp_path, **secured) as gw, upstream("e1") as engine:
        address = gw.running.address
        assert address.url.startswith("https://")
        traffic = GatewayTraffic(lambda: [address], timeout_s=30, ca=files.ca)
        await asyncio.to_thread(traffic.apply, table(revision("rev-a", 100, engine)))
        assert await asyncio.to_thread(traffic.actual) == [table(revision("rev-a", 100, engine))]
        traffic.close()
        async with gw.session.post(gw.url + CHAT, json=chat(), ssl=trusting(files)) as response:
            assert response.status == 200
            assert b"[DONE]" in await response.read()


async def test_plain_http_is_not_served_on_a_tls_port(tmp_path: Path, files: Files) -> None:
    async with gateway(tmp_path, tls=files.server) as gw:
        port = int(gw.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200" not in await _rest(reader)
        writer.close()


async def _rest(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""


@asynccontextmanager
async def strict_engine(files: Files) -> AsyncIterator[Backend]:
    """Run an engine that speaks only to who shows a certificate of the authority."""
    engine = Upstream("e1", streaming(2))
    app = web.Application()
    app.router.add_post("/{rest:.*}", engine.answer)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.server.certificate, files.server.key)
    context.load_verify_locations(files.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield Backend(engine_id="e1", url=f"https://127.0.0.1:{runner.addresses[0][1]}")
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(("trusts", "shows", "code"), [(True, True, 200), (True, False, 502), (False, True, 502)])
async def test_engines_are_trusted_by_their_authority_and_shown_our_certificate(
    tmp_path: Path, files: Files, trusts: bool, shows: bool, code: int
) -> None:
    tls = EngineTls(ca=files.ca if trusts else None, own=files.client if shows else None)
    async with strict_engine(files) as backend, gateway(tmp_path, engine_tls=tls) as gw:
        await gw.route(revision("rev-a", 100).evolve(backends=(backend,)))
        assert (await gw.post(chat()))[0] == code


@pytest.mark.parametrize(
    "options",
    [
        ["--tls-cert", "only.pem"],
        ["--engine-key", "only.key"],
        ["--tls-cert", "none.pem", "--tls-key", "none.key"],
        ["--engine-ca", "none.pem"],
    ],
)
def test_files_that_cannot_be_used_are_named(
    tmp_path: Path, options: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"--data-dir={tmp_path}", "--port=0", "--admin-port=0", *options]) == 2
    said = capsys.readouterr().err
    assert "belong together" in said or "none.pem" in said
    assert "Traceback" not in said


async def test_a_file_that_is_no_certificate_is_refused(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    with pytest.raises(InvalidInput, match=r"wrong\.pem"):
        async with gateway(tmp_path, tls=TlsFiles(certificate=wrong, key=wrong)):
            raise AssertionError("it serves")
