"""A/B tests' part of the Store port."""

from __future__ import annotations

from collections.abc import Sequence

from controlplane.adapters.store_sql.database import Database
from controlplane.adapters.store_sql.documents import Documents
from controlplane.adapters.store_sql.registry import SqlModels
from controlplane.adapters.store_sql.tables import AB_TESTS
from controlplane.domain.ab_tests.ab_test import AbTest, AbTestId
from controlplane.domain.base import ServiceName
from controlplane.domain.errors import StaleVersion
from controlplane.domain.event import Event
from controlplane.domain.taken import ab_test_is_under_way
from controlplane.ports.store import Versioned


class SqlAbTests(SqlModels):
    """One row per test; a partial unique index keeps a service from having two that are not over."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._ab_tests = Documents(
            database,
            AB_TESTS,
            AbTest,
            key=("test_id",),
            columns=lambda t: {"test_id": t.test_id, "service": t.service, "state": t.state.value},
            noun="A/B test",
        )

    def get_ab_test(self, test_id: AbTestId) -> Versioned[AbTest]:
        return self._ab_tests.get(test_id)

    def list_ab_tests(self, service: ServiceName | None = None, *, limit: int = 100) -> Sequence[Versioned[AbTest]]:
        where = [] if service is None else [AB_TESTS.c.service == service]
        return self._ab_tests.find(*where, limit=limit)

    def save_ab_test(self, test: AbTest, version: int, *, events: Sequence[Event] = ()) -> int:
        try:
            return self._ab_tests.save(test, version, events)
        except StaleVersion as lost:
            others = [row.value for row in self.list_ab_tests(test.service, limit=5) if not row.value.is_over]
            if version == 0 and others and others[0].test_id != test.test_id:
                raise ab_test_is_under_way(others[0]) from lost
            raise
