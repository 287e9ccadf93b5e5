"""What every log of judged answers does, in memory and in files."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from controlplane.adapters.gateway.judged_files import KEPT, JudgedFiles
from controlplane.domain.base import ServiceName
from controlplane.domain.door.gateway_files import judged_dir
from controlplane.domain.door.judging import Judged
from controlplane.domain.errors import Unavailable
from tests.builders_serving import CHAT, NOW
from tests.fakes.fleet import FakeClock
from tests.fakes.judge import FakeJudged
from tests.unit.domain.test_ab_judged import judged


@pytest.fixture(params=["memory", "files"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> FakeJudged | JudgedFiles:
    return FakeJudged() if request.param == "memory" else JudgedFiles(tmp_path, clock=FakeClock(NOW))


def names(found: list[Judged] | tuple[Judged, ...]) -> list[str]:
    return [each.request_id for each in found]


def test_what_was_kept_is_read_once_by_service_and_time(log: FakeJudged | JudgedFiles) -> None:
    mail = ServiceName("mail")
    log.keep(CHAT, [judged("r1"), judged("old", at=NOW - timedelta(minutes=5))])
    log.keep(mail, [judged("m1", service=mail)])
    first = log.judged(CHAT, since=NOW, position={})
    assert names([*first.judged]) == ["r1"]
    log.keep(CHAT, [judged("r2", None)])
    second = log.judged(CHAT, since=NOW, position=first.position)
    assert (names([*second.judged]), second.judged[0].problem) == (["r2"], "it failed")
    assert not log.judged(CHAT, since=NOW, position=second.position).judged


def test_half_a_line_of_a_killed_controller_is_skipped_and_old_files_go(tmp_path: Path) -> None:
    clock = FakeClock(NOW)
    log = JudgedFiles(tmp_path, clock=clock)
    log.keep(CHAT, [judged("r1")])
    (path,) = judged_dir(tmp_path).iterdir()
    path.write_bytes(path.read_bytes() + b'{"at": "2026-')
    assert names([*log.judged(CHAT, since=NOW, position={}).judged]) == ["r1"]
    log.keep(CHAT, [judged("r2"), judged("r3")])
    assert names([*log.judged(CHAT, since=NOW, position={}).judged]) == ["r1", "r2", "r3"]
    clock.go_on((KEPT + timedelta(hours=2)).total_seconds())
    log.keep(CHAT, [judged("new")])
    assert not path.exists()


def test_a_folder_that_cannot_be_written_is_one_message(tmp_path: Path) -> None:
    judged_dir(tmp_path).write_text("no folder")
    with pytest.raises(Unavailable, match="cannot be written"):
        JudgedFiles(tmp_path, clock=FakeClock(NOW)).keep(CHAT, [judged()])
