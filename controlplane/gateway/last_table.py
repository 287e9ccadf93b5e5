"""The last good routing table on disk: what a restarted gateway serves by while the control plane is away."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from controlplane.domain.door.routing import RoutingTable, ServiceRoute
from controlplane.domain.errors import InvalidInput
from controlplane.host.files import write_whole
from controlplane.reading.problems import describe


def read_table(text: bytes) -> tuple[RoutingTable, Mapping[str, str]]:
    """Return the table and, by service, why a route in it cannot be read: one bad route must not freeze the others.

    Raises InvalidInput when it is no table at all.
    """
    try:
        return RoutingTable.model_validate_json(text), {}
    except ValidationError as error:
        return _without_bad_routes(text, error)


def _without_bad_routes(text: bytes, error: ValidationError) -> tuple[RoutingTable, Mapping[str, str]]:
    if any(problem["loc"][:1] != ("services",) or len(problem["loc"]) < 2 for problem in error.errors()):
        raise InvalidInput("this is not a routing table", why=describe(error)) from error
    given, good, bad = json.loads(text), [], {}
    for service in given["services"]:
        try:
            good.append(ServiceRoute.model_validate(service))
        except ValidationError as problem:
            name = service.get("service") if isinstance(service, dict) else None
            bad[str(name)] = describe(problem)
    return RoutingTable.model_validate({**given, "services": good}), bad


def save_table(table: RoutingTable, path: Path) -> None:
    """Replace the saved table; a crash at any moment leaves the old one or the new one, whole. Raises OSError."""
    write_whole(path, table.model_dump_json().encode())


def load_table(path: Path) -> RoutingTable | None:
    """Return the saved table, None when there is none. Raises InvalidInput when it cannot be read or is broken."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InvalidInput(f"cannot read the last routing table {path}", why=str(error)) from error
    try:
        return RoutingTable.model_validate_json(text)
    except ValidationError as error:
        raise InvalidInput(f"the last routing table {path} is broken", why=describe(error)) from error
