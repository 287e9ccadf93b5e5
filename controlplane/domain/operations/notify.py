"""Who is told of alerts, how, and in which words. Secrets only by reference. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from pydantic import AwareDatetime, Field, model_validator

from controlplane.domain.base import Value


class NotifyKind(StrEnum):
    WEBHOOK = "webhook"  # JSON of our own
    SLACK = "slack"  # Slack's incoming webhooks, and what understands their shape
    EMAIL = "email"  # SMTP


class SecretRef(Value):
    """Where a secret is found by the process that needs it, never the secret itself."""

    env: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="An environment variable.")
    file: str | None = Field(default=None, description="A file that holds nothing else.")

    @model_validator(mode="after")
    def _one(self) -> SecretRef:
        if (self.env is None) == (self.file is None):
            raise ValueError("a secret is named by env or by file, one of them")
        return self


class SmtpOptions(Value):
    """The server that mails go out by."""

    host: str
    port: int = Field(default=587, ge=1, le=65535)
    starttls: bool = True
    user: str | None = None
    password: SecretRef | None = None

    @model_validator(mode="after")
    def _both(self) -> SmtpOptions:
        if (self.user is None) != (self.password is None):
            raise ValueError("user and password belong together")
        if self.password is not None and not self.starttls:
            raise ValueError("a password is not sent without starttls")
        return self


class NotifyTarget(Value):
    """One place that is told."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")
    kind: NotifyKind
    url: SecretRef | None = Field(default=None, description="Of webhook and slack: the URL is a secret.")
    smtp: SmtpOptions | None = Field(default=None, description="Of email.")
    sender: str | None = Field(default=None, pattern=r"^[^@\s]+@[^@\s]+$")
    to: tuple[str, ...] = Field(default=(), description="Addresses of email.")
    severities: tuple[str, ...] = Field(default=(), description="Only these; empty: all.", examples=[["page"]])

    @model_validator(mode="after")
    def _whole(self) -> NotifyTarget:
        match self.kind:
            case NotifyKind.WEBHOOK | NotifyKind.SLACK:
                if self.url is None:
                    raise ValueError(f"{self.name}: a {self.kind.value} needs its url (env or file)")
            case NotifyKind.EMAIL:
                if self.smtp is None or self.sender is None or not self.to:
                    raise ValueError(f"{self.name}: an email needs smtp, sender and to")
        return self

    def wants(self, severity: str) -> bool:
        """Say whether this target is to hear of a severity."""
        return not self.severities or severity in self.severities


class Notice(Value):
    """What is told: an alert that fired, or what followed from it."""

    at: AwareDatetime
    action: str = Field(examples=["alert.fired", "alert.acted"])
    alert: str
    service: str | None
    severity: str
    text: str


def webhook_body(notice: Notice) -> Mapping[str, object]:
    """Return the JSON of our own webhook."""
    return {"version": "1", **notice.model_dump(mode="json")}


def slack_body(notice: Notice) -> Mapping[str, object]:
    """Return a message in Slack's shape; what Slack would take for markup is escaped."""
    text = subject(notice) + (f"\n{notice.text}" if notice.text else "")
    for sign, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(sign, name)
    return {"text": text}


def subject(notice: Notice) -> str:
    """Return one line: how bad, what, of whom."""
    of = "" if notice.service is None else f" {notice.service}:"
    verb = notice.action.rpartition(".")[2].replace("_", " ")
    return f"[{notice.severity or 'alert'}]{of} {notice.alert} {verb}"
