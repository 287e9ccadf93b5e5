"""What the API answers with values as they are stored, said without it: FastAPI and SQLAlchemy cost a command a second.

Lists and single things of a SQLite store, exactly as the API says them. It refuses nothing: what is not plain (a thing
that is not there, a limit out of bounds, a document that cannot be read) is left to the API.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple

from pydantic import ValidationError

from controlplane.adapters.store_sql.glance import Wanted, glance
from controlplane.domain.base import Value

LIMITS = range(1, 1001)


class Shelf(NamedTuple):
    """Where the values of one noun are stored, and how a list of them is asked for.

    `model` is `module:class`, imported when it is asked for. `part` is the field that is the noun, where it is one of
    what is stored. `sorted_by` are the fields by which a list is sorted that is not newest first.
    """

    table: str
    model: str
    key: str
    filters: tuple[str, ...] = ()
    limited: bool = False
    part: str | None = None
    sorted_by: tuple[str, ...] = ()


_STUDY = Shelf(
    "fleetune_studies",
    "controlplane.domain.studies.study:Study",
    key="study_id",
    filters=("service",),
    limited=True,
)
_TRIAL = Shelf("fleetune_trials", "controlplane.domain.studies.study:Trial", key="trial_id")

SHELVES: Mapping[str, Shelf] = {
    "services": Shelf("fleetune_services", "controlplane.domain.serving:Service", key="name"),
    "studies": _STUDY,
    "recommendations": _STUDY._replace(part="recommendation"),
    "rollouts": Shelf(
        "fleetune_rollouts",
        "controlplane.domain.rollouts.rollout:Rollout",
        key="rollout_id",
        filters=("service",),
        limited=True,
    ),
    "models": Shelf("fleetune_models", "controlplane.domain.models:RegisteredModel", key="name"),
}
"""The nouns of which both a list and one thing are as stored, by the first word of their paths."""

LISTS: Mapping[str, Shelf] = {
    **SHELVES,
    "ab-tests": Shelf(
        "fleetune_ab_tests",
        "controlplane.domain.ab_tests.ab_test:AbTest",
        key="test_id",
        filters=("service",),
        limited=True,
    ),
    "schedules": Shelf(
        "fleetune_schedules",
        "controlplane.domain.schedule:Schedule",
        key="name",
        filters=("service",),
        sorted_by=("service", "spec.name"),
    ),
    "events": Shelf(
        "fleetune_events",
        "controlplane.domain.event:Event",
        key="seq",
        filters=("service", "subject"),
        limited=True,
    ),
}
ONES: Mapping[str, Shelf] = {**SHELVES, "trials": _TRIAL}


def answer(url: str, path: str, params: Mapping[str, Any]) -> Any:
    """Return what the API on the store at `url` answers to a GET under its prefix; None where the API must say it."""
    match path.strip("/").split("/"):
        case [noun] if noun in LISTS:
            return _list(url, LISTS[noun], params)
        case [noun, name] if noun in ONES:
            return _one(url, ONES[noun], name)
        case ["studies", study, "trials"]:
            return _trials(url, study)
        case _:
            return None


def _list(url: str, shelf: Shelf, params: Mapping[str, Any]) -> Any:
    limit = params.get("limit") if shelf.limited else None
    if shelf.limited and limit not in LIMITS:
        return None
    where = {name: params[name] for name in shelf.filters if name in params}
    found = _values(url, shelf, Wanted(shelf.table, where, limit))
    return None if found is None else _page(found, shelf, limit)


def _one(url: str, shelf: Shelf, name: str) -> Any:
    found = _values(url, shelf, Wanted(shelf.table, {shelf.key: name}))
    return next(iter(_shown(found or (), shelf)), None)


def _trials(url: str, study: str) -> Any:
    wanted = Wanted(_TRIAL.table, {"study_id": study}, oldest_first=True)
    found = _values(url, _TRIAL, wanted) if _one(url, _STUDY, study) is not None else None
    return None if found is None else _page(found, _TRIAL, None)


def _values(url: str, shelf: Shelf, wanted: Wanted) -> Sequence[Value] | None:
    documents = glance(url, wanted)
    module, _, name = shelf.model.partition(":")
    model: type[Value] = getattr(import_module(module), name)
    try:
        return None if documents is None else [model.model_validate_json(each) for each in documents]
    except ValidationError:
        return None


def _page(values: Sequence[Value], shelf: Shelf, limit: int | None) -> Any:
    items = sorted(_shown(values, shelf), key=lambda item: [_at(item, path) for path in shelf.sorted_by])
    return {"items": items, "limit": len(items) if limit is None else limit}


def _shown(values: Sequence[Value], shelf: Shelf) -> list[Any]:
    from controlplane.domain.masking import masked

    parts = values if shelf.part is None else [getattr(each, shelf.part) for each in values]
    return [masked(each.model_dump(mode="json")) for each in parts if each is not None]


def _at(item: Any, path: str) -> Any:
    for part in path.split("."):
        item = item[part]
    return item
