"""What only a real database can show: broken files, foreign schemas, several processes, lost races."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from controlplane.adapters.store_sql import migrate
from controlplane.adapters.store_sql.migrate import newest
from controlplane.adapters.store_sql.store import SqlStore, open_store
from controlplane.adapters.store_sql.tables import METADATA
from controlplane.adapters.store_sql.version import NEWEST, VERSION_TABLE
from controlplane.domain.base import ServiceName
from controlplane.domain.door.identity import Scope
from controlplane.domain.errors import Conflict, InvalidInput, Unavailable
from controlplane.domain.event import Event
from controlplane.domain.schedule import ScheduleSpec
from controlplane.services.keys import digest, key_for, list_keys
from tests.builders_reports import a_load_report
from tests.builders_serving import CHAT, NOW, a_service, a_spec, after


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


def test_the_migrations_make_exactly_the_tables_the_code_uses(tmp_path: Path) -> None:
    open_store(url_of(tmp_path / "s.db")).close()
    engine = sa.create_engine(url_of(tmp_path / "s.db"))
    with engine.connect() as connection:
        ours = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(ours, METADATA) == []
    engine.dispose()


def test_opening_again_keeps_what_is_there(tmp_path: Path) -> None:
    first = open_store(url_of(tmp_path / "deep" / "folder" / "s.db"))
    first.save_service(a_service(), 0)
    first.close()
    second = open_store(url_of(tmp_path / "deep" / "folder" / "s.db"))
    assert second.get_service(CHAT).value == a_service()
    assert second.upgrade() == newest() == NEWEST
    second.close()


def test_a_store_of_the_version_before_is_upgraded_when_it_is_opened(tmp_path: Path) -> None:
    open_store(url_of(tmp_path / "s.db")).close()
    with closing(sqlite3.connect(tmp_path / "s.db")) as connection, connection:
        connection.execute("DROP TABLE fleetune_models")
        connection.execute("DROP TABLE fleetune_ab_tests")
        connection.execute("DROP INDEX fleetune_events_by_kind")
        connection.execute("ALTER TABLE fleetune_events DROP COLUMN action")
        connection.execute("ALTER TABLE fleetune_events DROP COLUMN at")
        old = [[_event(number).model_dump_json(), "engine/e"] for number in range(1001)]
        old.append(["no event", "engine/damaged"])
        connection.executemany("INSERT INTO fleetune_events (document, subject) VALUES (?, ?)", old)
        connection.execute("UPDATE fleetune_schema SET version_num = '0004'")
    with closing(open_store(url_of(tmp_path / "s.db"))) as store:
        assert store.list_models() == []
        found = store.list_events(actions={"engine.failed"}, since=after(998), limit=10)
        assert found == [_event(1000), _event(999)]


def _event(number: int) -> Event:
    return Event(at=after(number), actor="controller", action="engine.failed", subject="engine/e")


def test_events_of_a_kind_are_looked_up_and_not_searched(tmp_path: Path) -> None:
    open_store(url_of(tmp_path / "s.db")).close()
    looked = "EXPLAIN QUERY PLAN SELECT document FROM fleetune_events WHERE service = 'chat'"
    looked += " AND action IN ('engine.failed') AND at > 0 ORDER BY seq DESC LIMIT 200"
    with closing(sqlite3.connect(tmp_path / "s.db")) as connection:
        (plan, *_) = [row[3] for row in connection.execute(looked)]
    assert plan == "SEARCH fleetune_events USING INDEX fleetune_events_by_kind (action=? AND at>?)"


def test_a_new_store_is_for_its_owner_s_eyes_only(tmp_path: Path) -> None:
    store = open_store(url_of(tmp_path / "s.db"))
    store.save_service(a_service(), 0)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    store.close()


def test_a_store_written_by_a_newer_fleetune_is_refused(tmp_path: Path) -> None:
    open_store(url_of(tmp_path / "s.db")).close()
    with sqlite3.connect(tmp_path / "s.db") as connection:
        connection.execute("UPDATE fleetune_schema SET version_num = '9999'")
    connection.close()
    store = SqlStore(url_of(tmp_path / "s.db"))
    with pytest.raises(Unavailable, match=rf"too new: its schema is 9999, this Fleetune knows up to {newest()}"):
        store.upgrade()
    store.close()


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "s.db").write_text("this is a diary, not a database" * 100)
    store = SqlStore(url_of(tmp_path / "s.db"))
    with pytest.raises(Unavailable, match="file is not a database"):
        store.upgrade()
    store.close()
    assert (tmp_path / "s.db").read_text().startswith("this is a diary")


def test_a_damaged_document_is_one_clear_message(tmp_path: Path) -> None:
    store = open_store(url_of(tmp_path / "s.db"))
    store.save_service(a_service(), 0)
    with sqlite3.connect(tmp_path / "s.db") as connection:
        connection.execute("""UPDATE fleetune_services SET document = '{"name": "chat"}'""")
    connection.close()
    with pytest.raises(Unavailable, match="a stored service cannot be read: spec: Field required"):
        store.get_service(CHAT)
    store.close()


def test_a_store_in_a_place_that_takes_no_file_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="cannot be made"):
        SqlStore(url_of(tmp_path / "file" / "s.db"))
    (tmp_path / "folder.db").mkdir()
    store = SqlStore(url_of(tmp_path / "folder.db"))
    with pytest.raises(Unavailable, match="unable to open database file"):
        store.upgrade()
    store.close()


_FULL_DISK = """
import resource, sys
from controlplane.adapters.store_sql.store import open_store
from controlplane.domain.errors import Unavailable
store = open_store(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))  # no file may grow beyond a MiB: as good as a full disk
try:
    store.write_setting("big", "x" * (4 << 20), 0)
except Unavailable as error:
    print(error)
"""


def test_a_disk_that_takes_no_more_is_unavailable_and_keeps_what_it_has(tmp_path: Path) -> None:
    store = open_store(url_of(tmp_path / "s.db"))
    store.save_service(a_service(), 0)
    command = [sys.executable, "-c", _FULL_DISK, url_of(tmp_path / "s.db")]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=240)
    assert "cannot be written" in said.stdout
    assert said.stderr == ""
    assert store.get_service(CHAT).value == a_service()
    assert store.read_setting("big") is None
    store.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "no database URL"),
        ("postgresql://u:geheim@host:port/x", "no database URL"),
        ("mysql://root@localhost/x", "unknown database 'mysql'"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
    ],
)
def test_a_url_that_names_no_store_is_refused_with_what_is_allowed(url: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=rf"{message}.*allowed: sqlite:///FILE"):
        SqlStore(url)


def test_an_unreachable_server_is_unavailable_and_its_password_is_not_told() -> None:
    store = SqlStore("postgresql://fleetune:hunter2@127.0.0.1:1/fleetune")
    with pytest.raises(Unavailable, match=r"fleetune:\*\*\*@127\.0\.0\.1") as caught:
        store.upgrade()
    assert "hunter2" not in str(caught.value)
    store.close()


_CHILD = """
import sys
from controlplane.adapters.store_sql.store import open_store
store = open_store(sys.argv[1])
print(*(store.next_number("n") for _ in range(20)))
"""


def test_processes_that_open_a_new_store_at_once_share_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _CHILD, url_of(tmp_path / "s.db")]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    numbers = [int(number) for child in children for number in child.communicate(timeout=240)[0].split()]
    assert sorted(numbers) == list(range(1, 61))


def test_keys_of_before_become_rows_that_may_do_what_they_could(tmp_path: Path) -> None:
    store = SqlStore(url_of(tmp_path / "s.db"))
    bring_to(store, "0002")
    digests = {name: digest(f"secret of {name}") for name in ("ana", "ben")}
    value = json.dumps([{"name": name, "sha256": sha256} for name, sha256 in digests.items()])
    raw(tmp_path, "INSERT INTO fleetune_settings (name, value) VALUES ('api_keys', ?)", value)
    store.upgrade()
    assert [kept.key.name for kept in list_keys(store)] == ["ana", "ben"]
    for name in digests:
        key = key_for(list_keys(store), f"secret of {name}", NOW)
        assert key is not None
        assert (key.name, set(key.scopes)) == (name, set(Scope))
    assert store.read_setting("api_keys") is None
    bring_to(store, "0002", down=True)
    (kept,) = raw(tmp_path, "SELECT value FROM fleetune_settings WHERE name = 'api_keys'")
    assert json.loads(kept[0]) == json.loads(value)
    store.upgrade()
    assert [kept.key.name for kept in list_keys(store)] == ["ana", "ben"]
    store.close()


def test_what_was_only_checked_before_is_sorted_out_when_the_tables_begin_to_promise_it(tmp_path: Path) -> None:
    store = SqlStore(url_of(tmp_path / "s.db"))
    bring_to(store, "0003")
    for name, day in (("first", 25), ("second", 30)):
        spec = a_spec(name=name, schedules=(ScheduleSpec(name="weekly", cron="0 2 * * SUN"),))
        document = a_service(name=name, spec=spec).model_dump_json().replace("0 2 * * SUN", f"0 2 {day} 2 *")
        raw(tmp_path, "INSERT INTO fleetune_services (name, version, document) VALUES (?, 1, ?)", name, document)
    never = '{"service": "first", "spec": {"name": "never", "cron": "0 0 30 2 *"}, "next_at": "2026-01-01T00:00:00Z"}'
    raw(
        tmp_path, "INSERT INTO fleetune_schedules (service, name, version, document) VALUES ('first', 'n', 1, ?)", never
    )
    for report in ("replay.x", "replay.chat.nightly.7.worse", "replay.chat.nightly.8", "load-1"):
        values = "INSERT INTO fleetune_load_reports (report_id, service, at, document) VALUES (?, 'chat', 0, ?)"
        raw(tmp_path, values, report, a_load_report().model_dump_json())
    store.upgrade()
    assert [(found.point.number, found.point.regressed) for found in store.list_replays()] == [(8, False), (7, True)]
    assert len(store.list_load_reports()) == 4
    assert not store.list_schedules()
    crons = {row.value.name: [each.cron for each in row.value.spec.schedules] for row in store.list_services()}
    assert crons == {"first": ["0 2 25 2 *"], "second": []}
    second, version = store.get_service(ServiceName("second"))
    with pytest.raises(Conflict, match="by first"):
        store.save_service(second, version)
    bring_to(store, "0003", down=True)
    assert store.upgrade() == newest()
    store.close()


def raw(folder: Path, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """Write or read as an earlier version of the code would."""
    with closing(sqlite3.connect(folder / "s.db")) as connection, connection:
        return connection.execute(statement, values).fetchall()


def bring_to(store: SqlStore, to: str, *, down: bool = False) -> None:
    """Bring a store's tables to an earlier revision."""
    config = migrate._config()
    with store._database.write() as connection:
        config.attributes["connection"] = connection
        (command.downgrade if down else command.upgrade)(config, to)
