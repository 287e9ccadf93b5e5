"""`fleetune schema`: what service.yaml may say."""

from __future__ import annotations

from controlplane.cli.tables.show import as_json
from controlplane.domain.service import ServiceSpec


def schema() -> None:
    """Print the JSON Schema of service.yaml."""
    as_json(ServiceSpec.model_json_schema())
