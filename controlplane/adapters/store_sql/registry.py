"""The registry's part of the Store port."""

from __future__ import annotations

from collections.abc import Sequence

from controlplane.adapters.store_sql.database import Database
from controlplane.adapters.store_sql.documents import Documents
from controlplane.adapters.store_sql.events import SqlEvents
from controlplane.adapters.store_sql.tables import MODELS
from controlplane.domain.event import Event
from controlplane.domain.models import RegisteredModel
from controlplane.ports.store import Versioned


class SqlModels(SqlEvents):
    """One row per model: a guard over its versions and aliases together."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._models = Documents(
            database, MODELS, RegisteredModel, key=("name",), columns=lambda m: {"name": m.name}, noun="model"
        )

    def get_model(self, name: str) -> Versioned[RegisteredModel]:
        return self._models.get(name)

    def list_models(self) -> Sequence[Versioned[RegisteredModel]]:
        return self._models.find()

    def save_model(self, model: RegisteredModel, version: int, *, events: Sequence[Event] = ()) -> int:
        return self._models.save(model, version, events)
