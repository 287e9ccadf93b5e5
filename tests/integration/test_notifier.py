"""Notices arrive: at a webhook, at what takes Slack's shape, by mail; and no secret is told when they do not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from email.message import Message
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message as MessageHandler

from controlplane.adapters.notifier import PlainNotifier
from controlplane.domain.errors import InvalidInput, Unavailable
from controlplane.domain.operations.notify import Notice, NotifyTarget
from controlplane.host.ports import free_port

NOTICE = Notice(
    at=datetime(2026, 11, 29, 3, 0, tzinfo=UTC),
    action="alert.fired",
    alert="FleetuneQueueGrows",
    service="chat",
    severity="page",
    text="40 requests wait, 8 run",
)


class Hook(HTTPServer):
    """Keeps what it is sent. `status` is what it answers."""

    status = 200

    def __init__(self) -> None:
        self.bodies: list[Any] = []
        super().__init__(("127.0.0.1", 0), _Taking)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/T0/secret-part"


class _Taking(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Mailbox(MessageHandler):
    def __init__(self) -> None:
        super().__init__()
        self.mails: list[Message] = []

    def handle_message(self, message: Message) -> None:
        self.mails.append(message)


@pytest.fixture
def hook() -> Iterator[Hook]:
    with Hook() as found:
        thread = Thread(target=found.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def target(kind: str, **fields: object) -> NotifyTarget:
    return NotifyTarget.model_validate({"name": "ops", "kind": kind, **fields})


def test_a_webhook_gets_our_own_json(hook: Hook) -> None:
    PlainNotifier({"HOOK": hook.url}).send(target("webhook", url={"env": "HOOK"}), NOTICE)
    (body,) = hook.bodies
    assert (body["version"], body["alert"], body["severity"]) == ("1", "FleetuneQueueGrows", "page")
    assert body["at"] == "2026-11-29T03:00:00Z"


def test_slack_gets_a_text_from_a_url_that_is_in_a_file(hook: Hook, tmp_path: Path) -> None:
    secret = tmp_path / "slack-url"
    secret.write_text(hook.url + "\n")
    PlainNotifier({}).send(target("slack", url={"file": str(secret)}), NOTICE)
    assert hook.bodies == [{"text": "[page] chat: FleetuneQueueGrows fired\n40 requests wait, 8 run"}]


def test_a_mail_arrives() -> None:
    mailbox, port = Mailbox(), free_port()
    server = Controller(mailbox, hostname="127.0.0.1", port=port, ready_timeout=240)
    server.start()
    try:
        smtp = {"host": "127.0.0.1", "port": port, "starttls": False}
        to = target("email", smtp=smtp, sender="fleetune@host.example", to=["a@host.example", "b@host.example"])
        PlainNotifier({}).send(to, NOTICE)
    finally:
        server.stop()
    (mail,) = mailbox.mails
    assert mail["Subject"] == "[page] chat: FleetuneQueueGrows fired"
    assert mail["To"] == "a@host.example, b@host.example"
    assert "40 requests wait" in str(mail.get_payload())


def test_one_that_refuses_or_is_not_there_is_named_without_its_url(hook: Hook) -> None:
    hook.status = 403
    for url in (hook.url, f"http://127.0.0.1:{free_port()}/T0/secret-part", "no url with secret-part"):
        with pytest.raises(Unavailable) as refused:
            PlainNotifier({"HOOK": url}).send(target("slack", url={"env": "HOOK"}), NOTICE)
        assert "ops was not told" in str(refused.value)
        assert "secret-part" not in str(refused.value)


@pytest.mark.parametrize("url", [{"env": "NOT_SET"}, {"file": "/nowhere/url"}])
def test_a_secret_that_is_not_there_is_said(url: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match="secret"):
        PlainNotifier({}).send(target("webhook", url=url), NOTICE)


def test_mail_to_nobody_who_listens_is_unavailable() -> None:
    smtp = {"host": "127.0.0.1", "port": free_port(), "starttls": False}
    with pytest.raises(Unavailable):
        PlainNotifier({}).send(target("email", smtp=smtp, sender="f@h.example", to=["a@h.example"]), NOTICE)


def test_a_secret_that_is_missing_is_found_without_asking_anybody(tmp_path: Path) -> None:
    there = NotifyTarget.model_validate({"name": "ops", "kind": "slack", "url": {"env": "OPS_URL"}})
    PlainNotifier({"OPS_URL": "http://127.0.0.1:9/x"}).check(there)
    with pytest.raises(InvalidInput, match="OPS_URL is empty"):
        PlainNotifier({}).check(there)
    smtp = {"host": "mail.example", "user": "u", "password": {"file": str(tmp_path / "none")}}
    mail = {"name": "mail", "kind": "email", "smtp": smtp, "sender": "a@b", "to": ["c@d"]}
    with pytest.raises(InvalidInput, match="cannot read the secret"):
        PlainNotifier({}).check(NotifyTarget.model_validate(mail))
