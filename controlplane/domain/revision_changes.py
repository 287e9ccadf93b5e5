"""What two revisions have different, for a report: flags, model and engine. Secrets are named, never shown. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from controlplane.domain.engines.flag_changes import FlagChange, flag_changes
from controlplane.domain.masking import HIDDEN, is_secret
from controlplane.domain.revision import Revision

_LEFT_OUT = {"flags", "flag_file"}  # of the engine: what is started is said by the revision's own flags


def revision_changes(before: Revision, after: Revision) -> tuple[str, ...]:
    """Return each difference as a line, flags first; none of equal revisions."""
    flags = [str(_shown(each)) for each in flag_changes(before.config.flags, after.config.flags)]
    model = _fields("model", before.model.model_dump(mode="json"), after.model.model_dump(mode="json"))
    was, now = (r.engine.model_dump(mode="json", exclude=_LEFT_OUT) for r in (before, after))
    return (*flags, *model, *_fields("engine", was, now))


def _shown(change: FlagChange) -> FlagChange:
    if not any(is_secret(change.flag, value) for value in (change.before, change.after)):
        return change
    before, after = (None if value is None else HIDDEN for value in (change.before, change.after))
    return change._replace(before=before, after=after)


def _fields(where: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted({*before, *after}):
        was, now, said = before.get(name), after.get(name), f"{where}.{name}"
        if was == now:
            continue
        if name == "env" and isinstance(was, Mapping) and isinstance(now, Mapping):
            yield from (f"{said} {each}: {_turned(was, now, each)}" for each in _differing(was, now))
        elif isinstance(was, Mapping) and isinstance(now, Mapping):
            yield from _fields(said, was, now)
        elif any(isinstance(value, Mapping | list) for value in (was, now)):
            yield f"{said}: another one"
        else:
            yield f"{said}: {_word(was)} → {_word(now)}"


def _differing(was: Mapping[str, str], now: Mapping[str, str]) -> Sequence[str]:
    return [name for name in sorted({*was, *now}) if was.get(name) != now.get(name)]


def _turned(was: Mapping[str, str], now: Mapping[str, str], name: str) -> str:
    """Values of the environment are never shown."""
    if name not in was:
        return "set"
    return "another value" if name in now else "no longer set"


def _word(value: object) -> str:
    return "not set" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
