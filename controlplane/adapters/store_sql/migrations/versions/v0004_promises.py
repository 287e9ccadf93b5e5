"""What was checked before a write is promised by the tables: model names, versions of settings, verdicts of replays.

Of services that share a model name the one registered first keeps it; the other is refused until it takes another one.
Replays were known by their report's name, `replay.<service>.<schedule>.<number>[.worse]`: those that parse get a row's
field, an uploaded report that merely looked like one stays a report. Schedules that can never fire are taken out.
"""

from __future__ import annotations

import json
import re
from typing import Any

import sqlalchemy as sa
from alembic import op
from croniter import CroniterBadDateError, croniter

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_SERVICES = sa.table("fleetune_services", sa.column("seq"), sa.column("model"), sa.column("document"))
_STUDIES = sa.table("fleetune_studies", sa.column("seq"), sa.column("document"))
_SCHEDULES = sa.table("fleetune_schedules", sa.column("seq"), sa.column("document"))
_REPORTS = sa.table("fleetune_load_reports", sa.column("seq"), sa.column("report_id"), sa.column("replay"))


def upgrade() -> None:
    op.add_column("fleetune_services", sa.Column("model", sa.Text()))
    op.add_column("fleetune_settings", sa.Column("version", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("fleetune_load_reports", sa.Column("replay", sa.Text()))
    connection = op.get_bind()
    _drop_what_never_fires(connection)
    _name_models(connection)
    _mark_replays(connection)
    op.create_index("one_service_per_model", "fleetune_services", ["model"], unique=True)


def downgrade() -> None:
    op.drop_index("one_service_per_model", "fleetune_services")
    op.drop_column("fleetune_load_reports", "replay")
    op.drop_column("fleetune_settings", "version")
    op.drop_column("fleetune_services", "model")


def _name_models(connection: sa.Connection) -> None:
    seen: set[str] = set()
    for row in connection.execute(sa.select(_SERVICES.c.seq, _SERVICES.c.document).order_by(_SERVICES.c.seq)).all():
        name = json.loads(row.document).get("spec", {}).get("model", {}).get("name")
        if name is not None and name not in seen:
            seen.add(name)
            connection.execute(_SERVICES.update().where(_SERVICES.c.seq == row.seq).values(model=name))


def _mark_replays(connection: sa.Connection) -> None:
    named = sa.select(_REPORTS.c.seq, _REPORTS.c.report_id).where(_REPORTS.c.report_id.like("replay.%"))
    for row in connection.execute(named).all():
        point = _point(row.report_id)
        if point is not None:
            connection.execute(_REPORTS.update().where(_REPORTS.c.seq == row.seq).values(replay=json.dumps(point)))


def _point(report_id: str) -> dict[str, Any] | None:
    found = re.fullmatch(r"replay\.([a-z0-9-]+)\.([a-z0-9-]+)\.([1-9][0-9]*)(\.worse)?", report_id)
    if found is None:
        return None
    service, schedule, number, worse = found.groups()
    return {"service": service, "schedule": schedule, "number": int(number), "regressed": worse is not None}


def _drop_what_never_fires(connection: sa.Connection) -> None:
    for row in connection.execute(sa.select(_SCHEDULES.c.seq, _SCHEDULES.c.document)).all():
        if not _fires(json.loads(row.document).get("spec", {})):
            connection.execute(_SCHEDULES.delete().where(_SCHEDULES.c.seq == row.seq))
    for table in (_SERVICES, _STUDIES):
        for row in connection.execute(sa.select(table.c.seq, table.c.document)).all():
            document = json.loads(row.document)
            schedules = document.get("spec", {}).get("schedules", [])
            kept = [schedule for schedule in schedules if _fires(schedule)]
            if kept != schedules:
                document["spec"]["schedules"] = kept
                connection.execute(table.update().where(table.c.seq == row.seq).values(document=json.dumps(document)))


def _fires(schedule: dict[str, Any]) -> bool:
    try:
        croniter(schedule.get("cron", ""), 0).get_next()
    except CroniterBadDateError:
        return False
    except ValueError:  # damaged in another way: not for this migration
        return True
    return True
