"""Notices of one host: files that somebody lays down, and what each cloud's metadata service says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from controlplane.adapters.reclaims.files import ReclaimFolder
from controlplane.adapters.reclaims.metadata import CloudMetadata
from controlplane.domain.errors import Unavailable
from controlplane.domain.operations.spot import Cloud
from controlplane.host.ports import free_port
from tests.builders_serving import NOW, after

Said = Mapping[str, object]
WALL = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
EC2 = "/latest/meta-data/spot/instance-action"
GCE = "/computeMetadata/v1/instance/preempted"
AZURE = "/metadata/scheduledevents?api-version=2020-07-01"
NEEDED = {EC2: ("X-aws-ec2-metadata-token", "t0ken"), GCE: ("Metadata-Flavor", "Google"), AZURE: ("Metadata", "true")}


@pytest.fixture
def answers() -> Iterator[tuple[str, dict[str, str]]]:
    """A metadata service: its URL, and what it answers by path; 403 without the header that its cloud wants."""
    known: dict[str, str] = {}

    class Answering(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self._say(200, "t0ken")

        def do_GET(self) -> None:
            name, value = NEEDED[self.path]
            if self.headers.get(name) != value:
                self._say(403, "")
            else:
                self._say(200 if self.path in known else 404, known.get(self.path, ""))

        def _say(self, code: int, text: str) -> None:
            self.send_response(code)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answering)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", known
    server.shutdown()
    server.server_close()


def folder(place: Path, **changes: object) -> ReclaimFolder:
    given: dict[str, object] = {"gpus": (0, 1, 2), "clock": lambda: NOW, "wall": lambda: WALL}
    return ReclaimFolder(place, **(given | changes))  # type: ignore[arg-type]


def test_the_time_in_a_file_is_the_wall_clocks_and_a_notice_is_in_our_own(tmp_path: Path) -> None:
    (tmp_path / "gpu-1").write_text((WALL + timedelta(seconds=90)).isoformat())
    [notice] = folder(tmp_path).notices()
    assert (notice.gpus, notice.ends_at, notice.why) == (frozenset({1}), after(90), "gpu 1 is taken back")


@pytest.mark.parametrize("text", ["", "soon", "2026-03-02T08:00:00"])
def test_a_file_without_a_time_that_can_be_read_is_a_notice_nevertheless(tmp_path: Path, text: str) -> None:
    (tmp_path / "gpu-2").write_text(text)
    [notice] = folder(tmp_path).notices()
    assert (notice.gpus, notice.ends_at) == (frozenset({2}), None)


def test_other_files_say_nothing_and_the_hosts_own_takes_every_gpu(tmp_path: Path) -> None:
    (tmp_path / ".gpu-1.draft").touch()
    (tmp_path / "gpu-1x").touch()
    assert (list(folder(tmp_path).notices()), set(folder(tmp_path).leaving())) == ([], set())
    (tmp_path / "gpu-0").touch()
    assert set(folder(tmp_path).leaving()) == {0}
    (tmp_path / "host").touch()
    assert set(folder(tmp_path).leaving()) == {0, 1, 2}


def test_what_the_cloud_says_lies_in_the_folder_until_it_says_no_more(tmp_path: Path) -> None:
    said: list[datetime | None] = [None, WALL + timedelta(seconds=120), WALL + timedelta(seconds=150), None]
    asked = folder(tmp_path, ask_cloud=lambda: said.pop(0))
    assert list(asked.notices()) == []
    [first], [second] = asked.notices(), asked.notices()
    assert first == second, "the first word counts, whoever asks"
    assert set(folder(tmp_path).leaving()) == {0, 1, 2}, "who starts engines sees it without asking"
    assert list(asked.notices()) == []


def test_while_the_cloud_does_not_answer_what_it_said_last_stands(tmp_path: Path) -> None:
    def silent() -> datetime | None:
        raise Unavailable("no answer")

    folder(tmp_path, ask_cloud=lambda: WALL).notices()
    with pytest.raises(Unavailable):
        folder(tmp_path, ask_cloud=silent).notices()
    assert set(folder(tmp_path).leaving()) == {0, 1, 2}


@pytest.mark.parametrize(
    ("cloud", "path", "said", "seconds"),
    [
        (Cloud.EC2, EC2, {"action": "terminate", "time": "2026-03-02T08:02:00Z"}, 120),
        (Cloud.EC2, EC2, {"action": "hibernate", "time": "2026-03-02T08:02:00Z"}, 120),
        (Cloud.GCE, GCE, "TRUE", 30),
        (Cloud.GCE, GCE, "FALSE", None),
        (Cloud.AZURE, AZURE, {"Events": []}, None),
        (Cloud.AZURE, AZURE, {"Events": [{"EventType": "Freeze", "NotBefore": ""}]}, None),
        (Cloud.AZURE, AZURE, {"Events": [{"EventType": "Preempt", "NotBefore": "Mon, 02 Mar 2026 08:00:45 GMT"}]}, 45),
        (Cloud.AZURE, AZURE, {"Events": [{"EventType": "Preempt", "NotBefore": ""}]}, 30),
    ],
)
def test_each_clouds_own_words_are_understood(
    answers: tuple[str, dict[str, str]],
    cloud: Cloud,
    path: str,
    said: str | Said,
    seconds: float | None,
) -> None:
    url, known = answers
    known[path] = said if isinstance(said, str) else json.dumps(said)
    found = CloudMetadata(cloud, url=url, wall=lambda: WALL).taken_back_at()
    assert found == (None if seconds is None else WALL + timedelta(seconds=seconds))


def test_ec2_says_nothing_of_a_host_that_stays(answers: tuple[str, dict[str, str]]) -> None:
    assert CloudMetadata(Cloud.EC2, url=answers[0]).taken_back_at() is None


@pytest.mark.parametrize(("cloud", "path"), [(Cloud.EC2, EC2), (Cloud.GCE, GCE), (Cloud.AZURE, AZURE)])
@pytest.mark.parametrize("said", ["", "[]", "{", '{"Events": [{}]}', '{"action": "terminate"}'])
def test_an_answer_that_is_none_is_no_all_clear(
    answers: tuple[str, dict[str, str]], cloud: Cloud, path: str, said: str
) -> None:
    answers[1][path] = said
    with pytest.raises(Unavailable, match="does not say whether"):
        CloudMetadata(cloud, url=answers[0]).taken_back_at()


def test_a_service_that_does_not_answer_is_named() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(Unavailable, match=re.escape(url)):
        CloudMetadata(Cloud.GCE, url=url).taken_back_at()
