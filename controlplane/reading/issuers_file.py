"""The file that names the issuers of tokens: YAML, a list under `issuers`."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError, field_validator

from controlplane.domain.base import Value
from controlplane.domain.door.issuer import Issuer
from controlplane.domain.errors import InvalidInput, unreadable
from controlplane.reading.problems import describe
from controlplane.reading.text_file import read_text
from controlplane.reading.yaml_text import decoded


class _Issuers(Value):
    issuers: tuple[Issuer, ...]

    @field_validator("issuers")
    @classmethod
    def _different(cls, issuers: tuple[Issuer, ...]) -> tuple[Issuer, ...]:
        for field in ("name", "issuer"):
            given = [getattr(each, field) for each in issuers]
            if len(set(given)) < len(given):
                raise ValueError(f"two issuers have the same {field}")
        return issuers


def load_issuers(path: Path | None) -> tuple[Issuer, ...]:
    """Read the issuers; none without a file. Raises InvalidInput naming what is wrong."""
    if path is None:
        return ()
    try:
        text = read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read {path}", why=unreadable(error)) from error
    raw = decoded(text, source=str(path))
    try:
        return _Issuers.model_validate(raw).issuers
    except ValidationError as error:
        raise InvalidInput(f"{path} names no issuers of tokens", why=describe(error, _Issuers)) from error
