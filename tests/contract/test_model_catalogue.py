"""One suite for the ModelCatalogue port: the fake, and a real MLflow server on SQLite."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from controlplane.adapters.catalogue_mlflow import MlflowCatalogue
from controlplane.domain.errors import NotFound, Unavailable
from controlplane.ports.catalogue import ModelCatalogue
from tests.contract.test_store_races import at_once
from tests.fakes.catalogue import FakeCatalogue
from tests.mlflow_server import MlflowServer, mlflow_server

pytestmark = pytest.mark.slow  # a server of Python starts


class Site(NamedTuple):
    """The port, and what a team does in its catalogue."""

    catalogue: ModelCatalogue
    team: FakeCatalogue | MlflowServer
    model: str


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as running:
        yield running


@pytest.fixture(params=["fake", "mlflow"])
def site(request: pytest.FixtureRequest) -> Site:
    name = f"Support Llama {re.sub(r'[^a-z]+', '-', request.node.originalname)[-30:]}"
    if request.param == "fake":
        fake = FakeCatalogue()
        return Site(fake, fake, name)
    running: MlflowServer = request.getfixturevalue("server")
    return Site(MlflowCatalogue(running.url), running, name)


def test_versions_come_oldest_first_with_their_sources_and_tags(site: Site) -> None:
    for source in ("s3://models/a", "hf://meta/b"):
        site.team.add(site.model, source, tags={"fleetune.source": f"/local/{source[-1]}"})
    found = site.catalogue.model(site.model)
    assert (found.name, found.aliases) == (site.model, {})
    assert [(each.version, each.source) for each in found.versions] == [("1", "s3://models/a"), ("2", "hf://meta/b")]
    assert found.versions[1].tags == {"fleetune.source": "/local/b"}


def test_files_that_it_keeps_itself_are_listed_and_fetched_one_by_one(server: MlflowServer, tmp_path: Path) -> None:
    """The fake is held to it by the tests of fetching; here is the real server, by each kind of source."""
    source = server.keep({"model/config.json": b"{}", "model/weights/a.bin": b"a" * 1000})
    name = "Kept There"
    version = server.add(name, f"{source}/model")
    catalogue = MlflowCatalogue(server.url)
    for given in (f"{source}/model", f"models:/{name}/{version}"):
        found = sorted(catalogue.artifacts(given))
        assert found == [("config.json", 2), ("weights/a.bin", 1000)]
        folder = tmp_path / f"one-{len(given)}"
        folder.mkdir()
        assert catalogue.fetch(given, "weights/a.bin", folder).read_bytes() == b"a" * 1000
    with pytest.raises(NotFound):
        catalogue.artifacts(f"{source}/nothing")


def test_a_model_without_versions_is_empty(site: Site) -> None:
    site.team.create(site.model)
    assert site.catalogue.model(site.model).versions == ()


def test_an_alias_points_to_one_version_and_the_later_move_wins(site: Site) -> None:
    for source in ("s3://models/a", "s3://models/b", "s3://models/c"):
        site.team.add(site.model, source)
    site.catalogue.move_alias(site.model, "champion", "1")
    site.catalogue.move_alias(site.model, "other", "1")
    for version in ("2", "3", "3"):
        site.catalogue.move_alias(site.model, "champion", version)
    assert site.catalogue.model(site.model).aliases == {"champion": "3", "other": "1"}


def test_of_two_who_move_an_alias_at_once_one_has_it(site: Site) -> None:
    for source in ("s3://models/a", "s3://models/b", "s3://models/c"):
        site.team.add(site.model, source)
    site.catalogue.move_alias(site.model, "champion", "1")
    for _ in range(5):
        at_once(lambda person: site.catalogue.move_alias(site.model, "champion", str(person + 2)), 2)
        assert site.catalogue.model(site.model).aliases["champion"] in ("2", "3")


def test_a_tag_is_set_again_and_others_stay(site: Site) -> None:
    version = site.team.add(site.model, "s3://models/a", tags={"team": "support"})
    for value in ("rolled back by chat-r1: too slow", "promoted by chat-r2: no worse", "promoted by chat-r2: no worse"):
        site.catalogue.tag(site.model, version, {"fleetune.chat": value})
    (found,) = site.catalogue.model(site.model).versions
    assert found.tags == {"team": "support", "fleetune.chat": "promoted by chat-r2: no worse"}


def test_what_is_unknown_is_said(site: Site) -> None:
    with pytest.raises(NotFound):
        site.catalogue.model(site.model)
    site.team.add(site.model, "s3://models/a")
    with pytest.raises(NotFound):
        site.catalogue.move_alias(site.model, "champion", "99")
    with pytest.raises(NotFound):
        site.catalogue.tag(site.model, "99", {"fleetune.chat": "promoted"})
    assert site.catalogue.model(site.model).aliases == {}


def test_a_server_that_is_not_there_is_unavailable_in_one_line_without_its_insides() -> None:
    catalogue = MlflowCatalogue("http://127.0.0.1:1")
    with pytest.raises(Unavailable) as told:
        catalogue.model("Support Llama")
    assert str(told.value) == "MLflow at http://127.0.0.1:1 does not answer: nobody listens there"
