"""The whole way with a real MLflow server, a real store and the controller: what a team does there, what follows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.adapters.catalogue_mlflow import MlflowCatalogue
from controlplane.adapters.store_sql.store import open_store
from controlplane.domain.models import STABLE
from controlplane.domain.rollouts.rollout import RolloutState
from tests.integration.controller.mlflow_site import NEW, OLD, THIRD, MlflowSite
from tests.integration.controller.site import Site
from tests.mlflow_server import mlflow_server


@pytest.fixture
def site(tmp_path: Path) -> Iterator[MlflowSite]:
    store = open_store(f"sqlite:///{tmp_path}/fleetune.db")
    with mlflow_server(tmp_path) as team:
        yield MlflowSite(MlflowCatalogue(team.url), team, Site(store=store))
    store.close()


@pytest.mark.slow
def test_an_alias_moved_in_mlflow_is_confirmed_there_and_a_bad_version_is_tagged_with_its_reason(
    site: MlflowSite,
) -> None:
    site.serving(OLD, NEW, THIRD)
    site.moved("2")
    site.until(RolloutState.PROMOTED)
    good = site.site.rollout
    assert [step.weight_percent for step in good.steps] == [5, 100]
    assert site.aliases == {"candidate": "2", STABLE: "2"}
    assert (site.tag(2) or "").startswith(f"promoted by {good.rollout_id}: ")

    site.moved("3")
    site.site.slow.add(site.site.rollout.canary)
    site.until(RolloutState.ABORTED)
    bad = site.site.rollout
    assert site.site.store.get_revision(bad.canary).model.path == THIRD
    assert site.aliases == {"candidate": "3", STABLE: "2"}
    assert site.tag(3) == f"rolled back by {bad.rollout_id}: {bad.reason}"
    assert site.tag(1) is None
