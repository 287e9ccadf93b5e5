"""Which revision of which service serves which version, for the page of a model."""

from __future__ import annotations

from controlplane.domain.base import RevisionId, ServiceName
from controlplane.domain.models import Outcome
from dashboards.views.models import serving
from tests.builders_serving import CHAT, a_service


def became(version: int, revision: str, service: ServiceName = CHAT) -> Outcome:
    return Outcome(
        version=version,
        service=service,
        revision=RevisionId(revision),
        study=None,
        rollout=None,
        state=None,
        reason=None,
    )


def test_a_service_stands_with_the_version_of_its_stable_revision() -> None:
    found = serving(
        [became(2, "rev-2"), became(1, "rev-1")], [a_service(stable=RevisionId("rev-1"), stable_replicas=3)]
    )
    assert [(each.service, each.version, each.revision, each.replicas) for each in found] == [(CHAT, 1, "rev-1", 3)]


def test_a_service_of_another_model_and_one_that_serves_nothing_stand_nowhere() -> None:
    assert serving([became(1, "rev-1")], [a_service(stable=RevisionId("rev-9"))]) == []
    assert serving([became(1, "rev-1")], [a_service(stable=None)]) == []
