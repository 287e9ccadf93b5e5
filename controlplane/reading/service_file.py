"""`service.yaml` as text or file to a ServiceSpec."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from controlplane.domain.errors import InvalidInput, unreadable
from controlplane.domain.service import ServiceSpec
from controlplane.reading.problems import describe
from controlplane.reading.text_file import read_text
from controlplane.reading.yaml_text import decoded


def parse_service(text: str, *, source: str, folder: Path | None = None) -> ServiceSpec:
    """Read a service from YAML. Raises InvalidInput naming every wrong field; `source` is named in the message.

    `engine.mapping` may be the path of a file, relative to `folder`; its content becomes part of the service. The file
    of `workload.trace`, relative to where one is or else to `folder`, is named in full: who reads it may run elsewhere.
    """
    raw = decoded(text, source=source)
    if not isinstance(raw, dict):
        found = "nothing" if raw is None else f"a {type(raw).__name__}"
        raise InvalidInput(f"{source} holds no mapping", why=f"found {found}", allowed="fields: `fleetune schema`")
    try:
        return ServiceSpec.model_validate(_with_trace(_with_mapping(raw, folder), folder))
    except ValidationError as error:
        raise InvalidInput(f"{source} is not a valid service", why=describe(error, ServiceSpec)) from error


def load_service(path: Path) -> ServiceSpec:
    """Read `service.yaml`. Raises InvalidInput when it cannot be read or is invalid."""
    try:
        text = read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read {path}", why=unreadable(error)) from error
    return parse_service(text, source=str(path), folder=path.parent)


def _with_mapping(raw: dict[str, Any], folder: Path | None) -> dict[str, Any]:
    engine = raw.get("engine")
    if folder is None or not isinstance(engine, dict) or not isinstance(engine.get("mapping"), str):
        return raw
    path = folder / engine["mapping"]
    try:
        text = read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read the mapping {path}", why=unreadable(error)) from error
    return raw | {"engine": engine | {"mapping": decoded(text, source=str(path))}}


def _with_trace(raw: dict[str, Any], folder: Path | None) -> dict[str, Any]:
    workload = raw.get("workload")
    if folder is None or not isinstance(workload, dict) or not isinstance(workload.get("trace"), str):
        return raw
    found = next((path for base in (Path(), folder) if (path := base / workload["trace"]).is_file()), None)
    return raw if found is None else raw | {"workload": workload | {"trace": str(found.resolve())}}
