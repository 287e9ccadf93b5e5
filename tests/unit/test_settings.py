"""The installation's file, which may hold the store's password."""

from __future__ import annotations

from pathlib import Path

from controlplane.settings import FILE, Settings, load, save


def test_the_installations_file_is_for_its_owner_only(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, store_url="postgresql://fleetune:hunter2@db/fleetune")
    (tmp_path / FILE).write_text("{}")
    (tmp_path / FILE).chmod(0o644)  # as it was written before
    save(settings)
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    assert load(tmp_path) == settings
