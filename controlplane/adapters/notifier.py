"""Notifier over HTTP (our own webhook, Slack's shape) and SMTP. Secrets are read when needed, and never told."""

from __future__ import annotations

import os
import smtplib
import ssl
from collections.abc import Mapping
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from pathlib import Path

import httpx

from controlplane.domain.errors import InvalidInput, Unavailable, unreadable
from controlplane.domain.operations.notify import (
    Notice,
    NotifyKind,
    NotifyTarget,
    SecretRef,
    SmtpOptions,
    slack_body,
    subject,
    webhook_body,
)

TIMEOUT_S = 10.0


class PlainNotifier:
    """See `ports.Notifier`. `environment` is where secrets named by env are."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._environment = environment

    def check(self, target: NotifyTarget) -> None:
        """See `ports.Notifier.check`."""
        of_smtp = None if target.smtp is None else target.smtp.password
        for ref in (target.url, of_smtp):
            if ref is not None:
                self._secret(ref)

    def send(self, target: NotifyTarget, notice: Notice) -> None:
        """See `ports.Notifier.send`."""
        match target.kind:
            case NotifyKind.WEBHOOK:
                self._post(target, webhook_body(notice))
            case NotifyKind.SLACK:
                self._post(target, slack_body(notice))
            case NotifyKind.EMAIL:
                self._mail(target, notice)

    def _post(self, target: NotifyTarget, body: Mapping[str, object]) -> None:
        assert target.url is not None, "a validated target has one"
        try:
            answer = httpx.post(self._secret(target.url), json=body, timeout=TIMEOUT_S, trust_env=False)
        except (httpx.HTTPError, httpx.InvalidURL) as error:  # its text may quote the URL
            raise Unavailable(f"{target.name} was not told", why=type(error).__name__) from None
        if answer.status_code >= 300:
            raise Unavailable(f"{target.name} was not told", why=f"it answers {answer.status_code}")

    def _mail(self, target: NotifyTarget, notice: Notice) -> None:
        assert target.smtp is not None, "a validated target has one"
        try:
            self._sent(target.smtp, _message(target, notice))
        except (OSError, smtplib.SMTPException) as error:
            raise Unavailable(f"{target.name} was not told", why=type(error).__name__) from None

    def _sent(self, options: SmtpOptions, message: EmailMessage) -> None:
        with smtplib.SMTP(options.host, options.port, timeout=TIMEOUT_S) as server:
            if options.starttls:
                server.starttls(context=ssl.create_default_context())
            if options.user is not None and options.password is not None:
                server.login(options.user, self._secret(options.password))
            server.send_message(message)

    def _secret(self, ref: SecretRef) -> str:
        """Return a secret. Raises InvalidInput when there is none where it is said to be."""
        if ref.env is not None:
            found, where = self._environment.get(ref.env, ""), f"the environment variable {ref.env}"
        else:
            found, where = _content(Path(ref.file or "")), f"the file {ref.file}"
        if not found.strip():
            raise InvalidInput("a secret is missing", why=f"{where} is empty")
        return found.strip()


def _content(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read the secret in {path}", why=unreadable(error)) from error


def _message(target: NotifyTarget, notice: Notice) -> EmailMessage:
    message = EmailMessage()
    message["Subject"] = " ".join(subject(notice).split())
    message["From"] = target.sender
    message["To"] = ", ".join(target.to)
    message["Date"] = format_datetime(notice.at)
    message["Message-ID"] = make_msgid(domain="fleetune.invalid")
    message.set_content(f"{notice.text}\n\n{notice.at:%Y-%m-%d %H:%M:%S} UTC\n")
    return message
