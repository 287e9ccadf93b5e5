"""The audit log goes on over days, restarts, kills and full disks, and forgets whole days."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from controlplane.adapters.gateway.audit_files import audit_lines, audited, verified
from controlplane.domain.door.audit import Broken, Entry, Verified
from controlplane.domain.door.gateway_files import audit_dir
from controlplane.domain.errors import NotFound
from controlplane.gateway.auditing.log import AuditLog
from tests.builders_serving import NOW
from tests.unit.domain.test_audit import happened


class At:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def a_log(data_dir: Path, clock: At, gateway: str = "gw-1", days: float = 10) -> AuditLog:
    return AuditLog(audit_dir(data_dir), gateway, clock=clock, retention_days=days)


async def written(log: AuditLog, *numbers: int) -> None:
    for number in numbers:
        log.keep(happened(number))
    await log.flush()


def whole(data_dir: Path, gateway: str = "gw-1") -> Verified:
    found = verified(data_dir, gateway)
    assert isinstance(found, Verified), found
    return found


async def test_the_chain_goes_on_over_days_and_restarts(tmp_path: Path) -> None:
    clock = At()
    await written(a_log(tmp_path, clock), 1, 2)
    clock.now += timedelta(days=1)
    again = a_log(tmp_path, clock)
    await written(again, 3)
    await written(again, 4)
    assert (whole(tmp_path).first, whole(tmp_path).head.number) == (1, 4)
    assert len(list(audit_dir(tmp_path).iterdir())) == 2
    assert {path.stat().st_mode & 0o777 for path in audit_dir(tmp_path).iterdir()} == {0o600}


async def test_who_is_cancelled_while_a_thread_writes_leaves_the_chain_whole(tmp_path: Path) -> None:
    writes, may_write = threading.Event(), threading.Event()

    def clock() -> datetime:  # asked by the thread that writes
        writes.set()
        may_write.wait(240)
        return NOW

    log = AuditLog(audit_dir(tmp_path), "gw-1", clock=clock, retention_days=10)
    log.keep(happened(1))
    flushing = asyncio.create_task(log.flush())
    await asyncio.to_thread(writes.wait, 240)
    flushing.cancel()
    await asyncio.wait([flushing])
    log.keep(happened(2))
    last = asyncio.create_task(log.flush())
    await asyncio.sleep(0)
    may_write.set()
    await last
    assert (whole(tmp_path).first, whole(tmp_path).head.number) == (1, 2)


async def test_gateways_have_chains_of_their_own(tmp_path: Path) -> None:
    for name in ("gw-1", "gw-1-b"):
        await written(a_log(tmp_path, At(), name), 1, 2)
    assert audited(tmp_path) == ["gw-1", "gw-1-b"]
    assert whole(tmp_path, "gw-1-b").head.number == 2
    with pytest.raises(NotFound):
        audited(tmp_path / "elsewhere")


async def test_half_a_line_of_a_killed_gateway_is_taken_away(tmp_path: Path) -> None:
    clock = At()
    await written(a_log(tmp_path, clock), 1, 2)
    path = next(audit_dir(tmp_path).iterdir())
    with path.open("ab") as file:
        file.write(b'{"number": 3, "bef')
    assert isinstance(verified(tmp_path, "gw-1"), Broken)
    await written(a_log(tmp_path, clock), 3)
    assert whole(tmp_path).head.number == 3


async def test_a_full_disk_is_waited_out_without_a_line_lost_or_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = a_log(tmp_path, At())
    await written(log, 1)

    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        await written(log, 2, 3)
        await written(log, 4)
    assert whole(tmp_path).head.number == 1
    await written(log)
    assert whole(tmp_path).head.number == 4


async def test_what_is_older_than_its_retention_goes_and_the_rest_is_whole(tmp_path: Path) -> None:
    clock = At()
    log = a_log(tmp_path, clock, days=2)
    for number in range(1, 7):
        await written(log, number)
        clock.now += timedelta(days=1)
    log.prune()
    kept = [Entry.model_validate_json(line).number for _, line in audit_lines(tmp_path, "gw-1")]
    assert kept == [5, 6]
    assert whole(tmp_path).first == 5
