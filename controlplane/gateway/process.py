"""One gateway process from start to drained end."""

from __future__ import annotations

import gc
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from random import Random

import aiohttp

from controlplane.domain.door.gateway_files import (
    addresses_dir,
    audit_dir,
    records_dir,
    salt_path,
    scores_dir,
    table_path,
)
from controlplane.domain.door.routing import GatewayAddress, GatewayRecord
from controlplane.domain.errors import InvalidInput
from controlplane.gateway.admin import AdminPort
from controlplane.gateway.answers.collecting import Room
from controlplane.gateway.answers.opening import alike, answer_store
from controlplane.gateway.auditing.log import AuditLog
from controlplane.gateway.background import in_background
from controlplane.gateway.batches.inside import Inside
from controlplane.gateway.batches.opening import batch_port, open_inside, run_batches
from controlplane.gateway.cards import Cards
from controlplane.gateway.certificates import Certificates
from controlplane.gateway.clients import open_clients
from controlplane.gateway.counts.opening import open_counts
from controlplane.gateway.drain import Drain, drain_on_signals, drain_with
from controlplane.gateway.engine_connections import EngineConnections
from controlplane.gateway.fingerprint import Fingerprints, installation_salt
from controlplane.gateway.flights import Flights
from controlplane.gateway.last_table import load_table
from controlplane.gateway.listening import listen
from controlplane.gateway.metrics import Metrics
from controlplane.gateway.pipeline import Pipeline, Stage
from controlplane.gateway.routing import Routing
from controlplane.gateway.samples import Samples
from controlplane.gateway.server import DataPort, Scores
from controlplane.gateway.settings import GC_THRESHOLDS, GatewaySettings
from controlplane.gateway.sockets import Sockets
from controlplane.gateway.spool import RecordSpool, ScoreSpool
from controlplane.gateway.stages.answer import Answer
from controlplane.gateway.stages.audit import Auditing
from controlplane.gateway.stages.cache import Caching
from controlplane.gateway.stages.fetching import Fetching
from controlplane.gateway.stages.hold import Holding
from controlplane.gateway.stages.limits import Limiting
from controlplane.gateway.stages.queue import Queueing
from controlplane.gateway.stages.record import Recording
from controlplane.gateway.stages.redact import Redacting
from controlplane.gateway.stages.sample import SamplingAnswers
from controlplane.gateway.stages.screen import Screening
from controlplane.gateway.stages.trace import Tracing
from controlplane.gateway.trusting import trust
from controlplane.host.addresses import is_loopback, url_of
from controlplane.host.clock import steady_clock
from controlplane.host.files import write_whole
from controlplane.host.locks import alone
from controlplane.host.memory import keep_freed_memory
from controlplane.host.processes import this_process
from controlplane.telemetry.tracing import request_tracing

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunningGateway:
    """A gateway that serves; `drain.request()` asks whoever holds it to end it."""

    address: GatewayAddress
    drain: Drain


async def run_gateway(settings: GatewaySettings) -> None:
    """Serve until SIGTERM, SIGINT, POST /admin/drain or (if set) the end of stdin, then drain.

    Raises InvalidInput, Conflict when it cannot start.
    """
    async with open_gateway(settings) as gateway:
        drain_on_signals(gateway.drain)
        if settings.until_stdin_ends:
            drain_with(sys.stdin.fileno(), gateway.drain)
        address = gateway.address
        keep_freed_memory()
        gc.freeze()  # what lives as long as the process need not be looked at in the middle of a stream
        gc.set_threshold(*GC_THRESHOLDS)
        grpc = "" if address.grpc is None else f", gRPC on {address.grpc}"
        sys.stdout.write(f"gateway {address.name} serves on {address.url}, admin on {address.admin_url}{grpc}\n")
        sys.stdout.flush()
        await gateway.drain.requested.wait()
        _log.info("draining: %d requests in flight", gateway.drain.in_flight)


@asynccontextmanager
async def open_gateway(settings: GatewaySettings) -> AsyncIterator[RunningGateway]:
    """Open both ports and write the gateway's address; on leaving drain and close. Raises InvalidInput, Conflict.

    Two of one name and data folder would overwrite each other's table and address.
    """
    _make_folders(settings)
    what = f"a gateway named {settings.name} already runs on {settings.data_dir}"
    lock = addresses_dir(settings.data_dir) / f"{settings.name}.lock"
    with alone(lock, what=what, allowed="another --name, or that one's end first"):
        async with _serving(settings) as gateway:
            yield gateway


@asynccontextmanager
async def _serving(settings: GatewaySettings) -> AsyncIterator[RunningGateway]:
    routing = Routing()
    problem = _take_last_table(routing, settings)
    _check_exposure(settings)
    path = addresses_dir(settings.data_dir) / f"{settings.name}.json"
    async with AsyncExitStack() as stack:
        drain = Drain()
        address = await _open(settings, routing, drain, problem, stack)
        write_whole(path, address.model_dump_json().encode())
        stack.callback(path.unlink, missing_ok=True)
        yield RunningGateway(address, drain)


def _take_last_table(routing: Routing, settings: GatewaySettings) -> str | None:
    """Serve by the saved table until a newer one comes; return what is wrong with it, if anything."""
    try:
        table = load_table(table_path(settings.data_dir, settings.name))
        if table is not None:
            routing.take(table)
    except InvalidInput as error:
        _log.error("%s; it is ignored", error)
        return str(error)
    return None


def _check_exposure(settings: GatewaySettings) -> None:
    if not is_loopback(settings.admin_host) and settings.admin_token is None:
        raise InvalidInput(
            f"refusing to open the admin port on {settings.admin_host} without a token",
            why="whoever reaches it controls all traffic",
            allowed="a loopback address, or --admin-token-file",
        )


def _make_folders(settings: GatewaySettings) -> None:
    folders = (addresses_dir(settings.data_dir), records_dir(settings.data_dir))
    try:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise InvalidInput(f"cannot write to {folder}", why="permission denied", allowed="another --data-dir")
    except OSError as error:
        raise InvalidInput(
            f"cannot write to {settings.data_dir}", why=str(error), allowed="another --data-dir"
        ) from error


async def _open(
    settings: GatewaySettings, routing: Routing, drain: Drain, problem: str | None, stack: AsyncExitStack
) -> GatewayAddress:
    """Open both ports. On leaving the stack: accept nothing new, drain, close, write the last records."""
    clock = steady_clock(settings.data_dir)
    retention_h = settings.retention_h
    spool = RecordSpool(records_dir(settings.data_dir), settings.name, clock=clock, retention_h=retention_h)
    scores = ScoreSpool(scores_dir(settings.data_dir), settings.name, clock=clock, retention_h=retention_h)
    for flush, run in ((spool.flush, spool.run), (scores.flush, scores.run)):
        stack.push_async_callback(flush)
        await in_background(run, stack)
    counts = await open_counts(settings, stack, clock)
    queueing, shown = Queueing(routing, time.monotonic, lambda: counts.gateways), Certificates(settings)
    room = Room(settings.collecting_bytes)
    metrics = Metrics(routing, spool, counts, queueing.gates, shown, room)
    session, engines = await open_clients(settings.engine_tls, stack)
    flights = Flights(time.monotonic)
    keep = _both(spool.keep, metrics.observe)
    recording = Recording(keep, time.monotonic, drain.cutting, flights)
    caching = Caching(answer_store(settings, stack), room, time.monotonic, alike(settings, session))
    answer = _answer(settings, routing, drain, keep, engines)
    limiting = Limiting(routing, counts)
    audit = await _audit(settings, stack, clock)
    first: list[Stage] = [Auditing(audit), Tracing(request_tracing(), time.monotonic), limiting, recording]
    samples, holding = Samples(), Holding(routing, time.monotonic)
    last: list[Stage] = [caching, SamplingAnswers(samples, room), Redacting(), holding, queueing]
    pipeline = Pipeline([*first, Fetching(), Screening(session), *last], answer)
    cards = Cards(routing, session, time.monotonic, Random(settings.seed))
    fingerprints = Fingerprints(installation_salt(salt_path(settings.data_dir)))
    tokens = trust(settings.issuers)
    if tokens is not None:
        await in_background(tokens.run, stack)
    inside, batches = Inside(routing, lambda: data.asks_for_keys, clock), batch_port(settings, clock, stack)
    sockets = Sockets(inside, drain, settings.cors_origins, settings.max_body_bytes) if settings.websocket else None
    port_of = partial(DataPort, settings, routing, pipeline, cards, metrics, drain, fingerprints)
    data = port_of(time.monotonic, clock, tokens, audit, batches, inside, sockets, Scores(scores.keep, counts))
    path, told = table_path(settings.data_dir, settings.name), batches.troubles if batches else None
    kept = (spool, drain, path, flights, counts, samples, holding, metrics)
    admin = AdminPort(settings, routing, *kept, problem, told, shown)
    open_port = partial(listen, stack=stack, head_within_s=settings.head_within_s)
    admin_at = (settings.admin_host, settings.admin_port)
    admin_port = await open_port(admin.app(), *admin_at, tls=settings.admin_tls, before_close=None)
    before, own = _drained(drain, settings.drain_s), settings.tls
    if batches is not None or sockets is not None or settings.grpc_port is not None:
        session = await open_inside(data.app(), stack)
    if sockets is not None:
        sockets.session = session
    grpc = await _open_grpc(settings, routing, drain, session, stack)
    port = await open_port(data.app(), settings.host, settings.port, tls=own, before_close=before, handler=data.handler)
    if batches is not None:
        await run_batches(settings, batches, session, inside, stack)
    return GatewayAddress(
        name=settings.name,
        url=url_of(settings.host, port, tls=settings.tls is not None),
        admin_url=url_of(settings.admin_host, admin_port, tls=settings.admin_tls is not None),
        grpc=grpc,
        process=this_process(),
    )


async def _open_grpc(
    settings: GatewaySettings, routing: Routing, drain: Drain, session: aiohttp.ClientSession, stack: AsyncExitStack
) -> str | None:
    """Open that port where there is one; what it needs is loaded only then. Raises InvalidInput without the extra."""
    if settings.grpc_port is None:
        return None
    try:
        from controlplane.gateway.kserve.opening import open_grpc
    except ImportError as error:
        raise InvalidInput(
            "cannot speak gRPC", why="grpcio is not installed", allowed="pip install fleetune[grpc]"
        ) from error
    return await open_grpc(settings, routing, drain, session, stack)


async def _audit(settings: GatewaySettings, stack: AsyncExitStack, clock: Callable[[], datetime]) -> AuditLog | None:
    if settings.audit_days is None:
        return None
    log = AuditLog(audit_dir(settings.data_dir), settings.name, clock=clock, retention_days=settings.audit_days)
    stack.push_async_callback(log.flush)
    await in_background(log.run, stack)
    return log


def _answer(
    settings: GatewaySettings,
    routing: Routing,
    drain: Drain,
    keep: Callable[[GatewayRecord], None],
    engines: EngineConnections,
) -> Answer:
    return Answer(
        routing=routing,
        engines=engines,
        keep=keep,
        monotonic=time.monotonic,
        chance=Random(settings.seed),
        stopping=drain.cutting,
    )


def _drained(drain: Drain, limit_s: float) -> Callable[[], Awaitable[None]]:
    async def finish() -> None:
        drain.request()
        cut = await drain.finish(limit_s)
        if cut:
            _log.warning("%d requests were cut: still in flight after %g s of draining", cut, limit_s)

    return finish


def _both(*keeping: Callable[[GatewayRecord], None]) -> Callable[[GatewayRecord], None]:
    def keep(record: GatewayRecord) -> None:
        for each in keeping:
            each(record)

    return keep
