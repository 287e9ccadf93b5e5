"""The tables: one JSON document per value beside the columns that are searched, and the version that guards writes.

`seq` keeps the order of insertion. Instants are seconds since the epoch, because SQLite has no zoned time.
"""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa

from controlplane.domain.ab_tests.ab_test import AB_FINAL
from controlplane.domain.rollouts.rollout import ROLLOUT_FINAL

METADATA = sa.MetaData()


class Instant(sa.types.TypeDecorator[datetime]):
    """An aware moment, kept as seconds since the epoch (microseconds survive)."""

    impl = sa.Double
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> float | None:
        return None if value is None else value.timestamp()

    def process_result_value(self, value: float | None, dialect: sa.Dialect) -> datetime | None:
        return None if value is None else datetime.fromtimestamp(value, UTC)


def _seq() -> sa.Column[int]:
    # Plain INTEGER on SQLite: only that aliases the row id and counts by itself.
    return sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True)


def _document() -> tuple[sa.Column[int], sa.Column[str]]:
    return sa.Column("version", sa.Integer, nullable=False), sa.Column("document", sa.Text, nullable=False)


SERVICES = sa.Table(
    "fleetune_services",
    METADATA,
    _seq(),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("model", sa.Text),  # the name clients use; none for one whose name another service had first
    *_document(),
)
ONE_SERVICE = sa.Index("one_service_per_model", SERVICES.c.model, unique=True)

STUDIES = sa.Table(
    "fleetune_studies",
    METADATA,
    _seq(),
    sa.Column("study_id", sa.Text, nullable=False, unique=True),
    sa.Column("service", sa.Text, nullable=False, index=True),
    sa.Column("state", sa.Text, nullable=False, index=True),
    sa.Column("to_apply", sa.Boolean, nullable=False, index=True),
    *_document(),
)

CLAIMS = sa.Table(
    "fleetune_study_claims",
    METADATA,
    sa.Column("study_id", sa.Text, primary_key=True),
    sa.Column("worker", sa.Text, primary_key=True),
    sa.Column("heartbeat_at", Instant, nullable=False),
)

TRIALS = sa.Table(
    "fleetune_trials",
    METADATA,
    _seq(),
    sa.Column("trial_id", sa.Text, nullable=False, unique=True),
    sa.Column("study_id", sa.Text, nullable=False, index=True),
    *_document(),
)

REVISIONS = sa.Table(
    "fleetune_revisions",
    METADATA,
    _seq(),
    sa.Column("revision_id", sa.Text, nullable=False, unique=True),
    sa.Column("service", sa.Text, nullable=False, index=True),
    sa.Column("document", sa.Text, nullable=False),
)

ROLLOUTS = sa.Table(
    "fleetune_rollouts",
    METADATA,
    _seq(),
    sa.Column("rollout_id", sa.Text, nullable=False, unique=True),
    sa.Column("service", sa.Text, nullable=False, index=True),
    sa.Column("state", sa.Text, nullable=False),
    *_document(),
)

_UNFINISHED = ROLLOUTS.c.state.not_in(sorted(state.value for state in ROLLOUT_FINAL))
ONE_ROLLOUT = sa.Index(
    "one_rollout_per_service", ROLLOUTS.c.service, unique=True, sqlite_where=_UNFINISHED, postgresql_where=_UNFINISHED
)

AB_TESTS = sa.Table(
    "fleetune_ab_tests",
    METADATA,
    _seq(),
    sa.Column("test_id", sa.Text, nullable=False, unique=True),
    sa.Column("service", sa.Text, nullable=False, index=True),
    sa.Column("state", sa.Text, nullable=False),
    *_document(),
)

_NOT_OVER = AB_TESTS.c.state.not_in(sorted(state.value for state in AB_FINAL))
ONE_AB_TEST = sa.Index(
    "one_ab_test_per_service", AB_TESTS.c.service, unique=True, sqlite_where=_NOT_OVER, postgresql_where=_NOT_OVER
)

SCHEDULES = sa.Table(
    "fleetune_schedules",
    METADATA,
    _seq(),
    sa.Column("service", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    *_document(),
    sa.UniqueConstraint("service", "name"),
)

API_KEYS = sa.Table(
    "fleetune_api_keys", METADATA, _seq(), sa.Column("name", sa.Text, nullable=False, unique=True), *_document()
)

MODELS = sa.Table(
    "fleetune_models", METADATA, _seq(), sa.Column("name", sa.Text, nullable=False, unique=True), *_document()
)

EVENTS = sa.Table(
    "fleetune_events",
    METADATA,
    _seq(),
    sa.Column("service", sa.Text, index=True),
    sa.Column("subject", sa.Text, nullable=False, index=True),
    sa.Column("document", sa.Text, nullable=False),
    sa.Column("action", sa.Text),  # none of one that cannot be read
    sa.Column("at", Instant),
)
EVENTS_BY_KIND = sa.Index("fleetune_events_by_kind", EVENTS.c.action, EVENTS.c.at)

LOAD_REPORTS = sa.Table(
    "fleetune_load_reports",
    METADATA,
    _seq(),
    sa.Column("report_id", sa.Text, nullable=False, unique=True),
    sa.Column("service", sa.Text, index=True),
    sa.Column("at", Instant, nullable=False),
    sa.Column("document", sa.Text, nullable=False),
    sa.Column("replay", sa.Text),  # a ReplayPoint, when it is one of a schedule's series
)

COUNTERS = sa.Table(
    "fleetune_counters",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
)

SETTINGS = sa.Table(
    "fleetune_settings",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
    sa.Column("version", sa.Integer, nullable=False, server_default="1"),
)
