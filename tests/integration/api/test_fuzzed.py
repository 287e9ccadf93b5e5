"""Whatever is sent to the API's door, by its own description and beside it: no 5xx, no traceback, no hang."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok

from controlplane.api.app import PREFIX, create_app
from tests.builders_serving import NOW, a_service
from tests.fakes.record_source import FakeRecordSource
from tests.fakes.store import FakeStore
from tests.integration.api.conftest import OneEngine
from tests.integration.api.operations import operations

OPERATIONS = [(method, f"{PREFIX}{path}") for method, path in sorted(operations())]
LIMITS = settings(
    max_examples=3,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def schema() -> Any:
    store = FakeStore()
    store.save_service(a_service(), 0)
    app = create_app(
        store=store, records=FakeRecordSource(), fleet_view=OneEngine(), clock=lambda: NOW, trusted_as="tester"
    )
    return schemathesis.openapi.from_asgi(f"{PREFIX}/openapi.json", app)


def test_all_operations_are_fuzzed(schema: Any) -> None:
    labels = [found.ok().label for found in schema.get_all_operations() if isinstance(found, Ok)]
    assert sorted(labels) == sorted(map(" ".join, OPERATIONS))
    assert len(labels) > 45


@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=map(" ".join, OPERATIONS))
def test_nothing_breaks_the_api(schema: Any, method: str, path: str) -> None:
    @LIMITS
    @given(schema[path][method].as_strategy())
    def sent(case: schemathesis.Case[Any]) -> None:
        response = case.call()
        case.validate_response(response, checks=[not_a_server_error])
        assert "Traceback" not in response.text

    sent()
