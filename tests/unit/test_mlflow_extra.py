"""MLflow's client is an extra: without it, or without a URL, one message says what to do, and nobody else needs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from controlplane.domain.catalogue import CatalogueLink
from controlplane.domain.errors import InvalidInput
from controlplane.services.fleet.serving import register_service
from controlplane.settings import Settings
from controlplane.wiring.beside import catalogue_pass, open_catalogue
from controlplane.wiring.machine import open_store
from tests.builders_serving import NOW, a_spec

WITHOUT_THE_EXTRA = """
import sys
sys.modules["mlflow.tracking"] = None
from controlplane.adapters.catalogue_mlflow import MlflowCatalogue
from controlplane.domain.errors import InvalidInput
try:
    MlflowCatalogue("http://mlflow:5000")
except InvalidInput as error:
    print(error)
"""


def test_without_the_extra_one_message_names_it() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_THE_EXTRA], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == (
        "MLflow cannot be asked: its client is not installed (allowed: pip install 'fleetune[mlflow]')"
    )


@pytest.mark.parametrize(
    ("url", "says"),
    [(None, "none is named"), ("http://127.0.0.1:1", "does not answer: nobody listens there")],
)
def test_the_controllers_pass_keeps_with_the_model_why_it_cannot_be_followed(
    tmp_path: Path, url: str | None, says: str
) -> None:
    settings = Settings(data_dir=tmp_path, mlflow_url=url)
    store = open_store(settings)
    link = CatalogueLink(model="Support Llama", alias="champion")
    register_service(store, a_spec(mlflow=link), actor="ann", now=NOW)
    assert catalogue_pass(settings)() is False
    origin = store.get_model("support-llama").value.origin
    assert origin is not None
    assert says in (origin.problem or "")
    store.close()


def test_without_a_url_one_message_says_where_it_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"MLflow cannot be asked: none is named.*--mlflow-url"):
        open_catalogue(Settings(data_dir=tmp_path))
