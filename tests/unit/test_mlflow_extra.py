"""MLflow's client is an extra: without it, or without a URL, one message says what to do, and nobody else needs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from controlplane.domain.errors import InvalidInput
from controlplane.settings import Settings
from controlplane.wiring.beside import open_catalogue

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


def test_without_a_url_one_message_says_where_it_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"MLflow cannot be asked: none is named.*--mlflow-url"):
        open_catalogue(Settings(data_dir=tmp_path))
