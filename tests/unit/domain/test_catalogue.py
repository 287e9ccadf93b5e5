"""What a catalogue's version is to an engine, and what is refused of it with one message."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from controlplane.domain.catalogue import (
    DIGEST_TAG,
    SOURCE_TAG,
    CatalogueLink,
    CatalogueVersion,
    OnMove,
    check_url,
    digest_of,
    source_of,
)
from controlplane.domain.errors import InvalidInput
from tests.builders_serving import a_spec

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("source", "given"),
    [
        ("/models/a", "/models/a"),
        ("file:///models/a", "/models/a"),
        ("hf://meta/a", "meta/a"),
        ("meta/a", "meta/a"),
        ("s3://models/a", "s3://models/a"),
        ("gs://models/a", "gs://models/a"),
    ],
)
def test_an_engine_is_given_what_it_can_read(source: str, given: str) -> None:
    assert source_of(CatalogueVersion("1", source)) == given


@pytest.mark.parametrize(
    "source",
    ["", "models:/m-1", "runs:/1/model", "mlflow-artifacts:/1/a", "dbfs:/a", "https://h/a", "file://host/a", "hf://"],
)
def test_what_no_engine_reads_is_refused_unless_a_tag_says_where_it_is(source: str) -> None:
    with pytest.raises(InvalidInput, match=r"version 3 (has a source|is kept in MLflow itself).*fleetune\.source"):
        source_of(CatalogueVersion("3", source))
    assert source_of(CatalogueVersion("3", source, {SOURCE_TAG: "/models/a"})) == "/models/a"


def test_a_digest_is_a_tag_and_anything_else_there_is_refused() -> None:
    assert digest_of(CatalogueVersion("1", "/a")) is None
    assert digest_of(CatalogueVersion("1", "/a", {DIGEST_TAG: DIGEST})) == DIGEST
    with pytest.raises(InvalidInput, match=r"version 1 has a tag fleetune\.digest that is no digest: md5:1"):
        digest_of(CatalogueVersion("1", "/a", {DIGEST_TAG: "md5:1"}))


@pytest.mark.parametrize("url", ["mlflow:5000", "sqlite:///x", "http://", "http://[", "databricks", ""])
def test_what_is_no_url_of_a_server_is_said(url: str) -> None:
    with pytest.raises(InvalidInput, match="is no URL of a server"):
        check_url(url)


@pytest.mark.parametrize("url", ["http://ann:hunter2@mlflow:5000", "ftp://ann:hunter2@mlflow", "ann:hunter2@mlflow"])
def test_a_password_in_a_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InvalidInput) as told:
        check_url(url)
    assert "hunter2" not in str(told.value)
    assert check_url("https://mlflow.example/base/") == "https://mlflow.example/base"


def test_a_model_goes_by_a_name_of_the_registry() -> None:
    link = CatalogueLink(model="Support Llama.v2", alias="champion")
    assert link.registered_as == "support-llama.v2"
    assert a_spec(mlflow=link).followed == "support-llama.v2@champion"
    assert a_spec(mlflow=link.evolve(then=OnMove.TELL)).followed is None
    assert a_spec(follows="llama@candidate").followed == "llama@candidate"


@pytest.mark.parametrize("wrong", [{"model": "a/b"}, {"model": "-a"}, {"alias": "Champion"}, {"then": "deploy"}])
def test_what_cannot_be_followed_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        CatalogueLink.model_validate({"model": "a", "alias": "champion"} | wrong)


def test_a_service_follows_one_alias() -> None:
    with pytest.raises(ValidationError, match="a service follows one alias"):
        a_spec(follows="llama@candidate", mlflow=CatalogueLink(model="llama", alias="champion"))
