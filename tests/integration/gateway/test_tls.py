"""TLS on both ports, and certificates shown to engines, from files."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509 import load_pem_x509_certificate
from prometheus_client.parser import text_string_to_metric_families

from controlplane.adapters.gateway.traffic import GatewayTraffic
from controlplane.domain.door.routing import Backend
from controlplane.domain.errors import InvalidInput, Unavailable
from controlplane.gateway.__main__ import main
from controlplane.gateway.certificates import Certificates
from controlplane.gateway.settings import EngineTls, GatewaySettings, TlsFiles
from controlplane.gateway.tls import of_server, renewing, server_tls
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
    return Files(folder / "ca.pem", written(server, folder / "server"), written(client, folder / "client"))


def written(certificate: trustme.LeafCert, stem: Path) -> TlsFiles:
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


async def test_a_gateway_that_is_reached_by_an_address_is_known_by_the_name_of_its_certificate(
    tmp_path: Path, files: Files, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A pod's address stands in no certificate."""
    folder, authority = tmp_path_factory.mktemp("named"), trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    named = written(authority.issue_cert("gateways.internal"), folder / "server")
    async with gateway(tmp_path, admin_tls=named) as gw, upstream("e1") as engine:
        address = gw.running.address
        for name, why in ((None, "127.0.0.1"), ("other.internal", "other.internal")):
            stranger = GatewayTraffic(lambda: [address], timeout_s=30, ca=folder / "ca.pem", server_name=name)
            with pytest.raises(Unavailable, match=why):
                await asyncio.to_thread(stranger.apply, table(revision("rev-a", 100, engine)))
            stranger.close()
        traffic = GatewayTraffic(lambda: [address], timeout_s=30, ca=folder / "ca.pem", server_name="gateways.internal")
        await asyncio.to_thread(traffic.apply, table(revision("rev-a", 100, engine)))
        traffic.close()


async def shown(port: int, authority: trustme.CA) -> int:
    """Return the serial number of the certificate that a port shows now."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    seen = writer.get_extra_info("ssl_object").getpeercert()
    writer.close()
    return int(seen["serialNumber"], 16)


def test_a_renewed_pair_is_in_use_and_half_a_pair_is_waited_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority = trustme.CA()
    files = written(authority.issue_cert("127.0.0.1"), tmp_path / "server")
    context, renewed = server_tls(files), of_server(files)
    assert context is not None
    assert not renewed.take(context)
    second = authority.issue_cert("127.0.0.1")
    renew(files.certificate, *second.cert_chain_pems)
    assert not renewed.take(context)
    assert not renewed.take(context)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    renew(files.key, second.private_key_pem)
    assert renewed.take(context)
    assert not renewed.take(context)
    files.key.unlink()  # as for a moment while somebody writes it
    assert not renewed.take(context)


def renew(path: Path, *blobs: trustme.Blob) -> None:
    before = path.stat().st_mtime_ns
    path.write_bytes(b"".join(blob.bytes() for blob in blobs))
    os.utime(path, ns=(before + 1, before + 1))


async def test_new_handshakes_show_a_renewed_certificate_and_open_connections_live_on(tmp_path: Path) -> None:
    authority = trustme.CA()
    files = written(authority.issue_cert("127.0.0.1"), tmp_path / "server")
    context = server_tls(files)
    server = await asyncio.start_server(_echo, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    trusts = ssl.create_default_context()
    authority.configure_trust(trusts)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusts)
    first, second = await shown(port, authority), authority.issue_cert("127.0.0.1")
    assert context is not None
    task = asyncio.ensure_future(renewing(context, of_server(files), every_s=0.01))
    await asyncio.sleep(0)
    renew(files.certificate, *second.cert_chain_pems)
    renew(files.key, second.private_key_pem)
    async with asyncio.timeout(240):
        while await shown(port, authority) == first:
            pass
    writer.write(b"still there\n")
    assert await reader.readline() == b"still there\n"
    task.cancel()
    writer.close()
    server.close()


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line)
    writer.close()


async def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(tmp_path: Path) -> None:
    files = written(trustme.CA().issue_cert("127.0.0.1"), tmp_path / "server")
    key = load_pem_private_key(files.key.read_bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    files.key.write_bytes(locked)
    with pytest.raises(InvalidInput, match="passphrase"):
        server_tls(files)


async def test_until_when_certificates_are_good_is_told_by_whom_they_are_shown_to(tmp_path: Path, files: Files) -> None:
    ends = load_pem_x509_certificate(files.server.certificate.read_bytes()).not_valid_after_utc
    shows = EngineTls(ca=files.ca, own=files.client)
    async with gateway(tmp_path, tls=files.server, engine_tls=shows) as gw:
        traffic = GatewayTraffic(lambda: [gw.running.address], timeout_s=30)
        told = (await asyncio.to_thread(traffic.certificates))[gw.running.address.name]
        traffic.close()
        async with gw.session.get(gw.url + "/metrics", ssl=trusting(files)) as response:
            page = await response.text()
    assert (set(told), told["clients"]) == ({"clients", "engines"}, ends)
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    shown_to = {each.labels["shown_to"]: each.value for each in samples if "certificate" in each.name}
    assert (set(shown_to), shown_to["clients"]) == ({"clients", "engines"}, ends.timestamp())


def test_a_chain_is_good_until_its_first_certificate_ends_and_a_renewed_one_counts_with_its_key(tmp_path: Path) -> None:
    authority, now = trustme.CA(), datetime.now(UTC).replace(microsecond=0)
    ends = [now + timedelta(days=days) for days in (90, 3, 200)]
    first, other, second = (authority.issue_cert("127.0.0.1", not_after=end) for end in ends)
    files = written(first, tmp_path / "server")
    other.cert_chain_pems[0].write_to_path(str(files.certificate), append=True)
    certificates = Certificates(GatewaySettings(data_dir=tmp_path, tls=files))
    assert certificates.ends() == {"clients": ends[1]}
    renew(files.certificate, *second.cert_chain_pems)
    assert certificates.ends() == {"clients": ends[1]}, "its key is another: it is not in use"
    renew(files.key, second.private_key_pem)
    assert certificates.ends() == {"clients": ends[2]}
    files.certificate.unlink()
    assert certificates.ends() == {"clients": ends[2]}
    assert Certificates(GatewaySettings(data_dir=tmp_path)).ends() == {}


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
