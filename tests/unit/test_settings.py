"""The installation's file, which may hold the store's password."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlplane.domain.errors import InvalidInput
from controlplane.settings import FILE, FILE_VARIABLE, POD_VARIABLES, STORE_VARIABLE, Settings, load, own_pod, save


def test_the_installations_file_is_for_its_owner_only(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, store_url="postgresql://fleetune:hunter2@db/fleetune")
    (tmp_path / FILE).write_text("{}")
    (tmp_path / FILE).chmod(0o644)  # as it was written before
    save(settings)
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    assert load(tmp_path) == settings


def test_a_chart_gives_the_file_elsewhere_the_secrets_in_a_folder_and_the_stores_url_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = tmp_path / "given.json"
    given.write_text('{"data_dir": "/elsewhere", "secrets_dir": "/secrets", "api_port": 9000}')
    monkeypatch.setenv(FILE_VARIABLE, str(given))
    monkeypatch.setenv(STORE_VARIABLE, "postgresql://fleetune:hunter2@db/fleetune")
    settings = load(tmp_path)
    assert (settings.data_dir, settings.api_port) == (tmp_path, 9000)
    assert (str(settings.admin_token_file), str(settings.dashboard_key_file)) == (
        "/secrets/admin-token",
        "/secrets/dashboard-key",
    )
    assert settings.database == "postgresql://fleetune:hunter2@db/fleetune"


def test_a_process_knows_its_pod_by_what_a_chart_tells_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in zip(POD_VARIABLES, ("worker-0", "3f2c", "10.0.0.7"), strict=True):
        monkeypatch.setenv(variable, value)
    assert own_pod() == ("worker-0", "3f2c", "10.0.0.7")


def test_pods_that_load_trials_need_a_worker_that_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in POD_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(InvalidInput, match="POD_NAME, POD_UID, POD_IP do not say where it is"):
        own_pod()
