"""Events by time and place, the incidents they are joined to, what people said, and the baseline."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_TIME = sa.DateTime(timezone=True)
_TABLES = (
    "event_index",
    "incidents",
    "incident_members",
    "incident_decisions",
    "decided_events",
    "clip_looks",
    "baseline_places",
    "baseline_decisions",
)


def upgrade() -> None:
    _incidents()
    _decisions()
    _baseline()


def downgrade() -> None:
    for table in reversed(_TABLES):
        op.drop_table(table)


def _incidents() -> None:
    op.create_table(
        "event_index",
        sa.Column("event_id", sa.String, nullable=False),
        sa.Column("subject", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("outpost_id", sa.String, nullable=False),
        sa.Column("started_at", _TIME, nullable=False),
        sa.Column("ended_at", _TIME, nullable=False),
        sa.Column("clock_doubt_s", sa.Float, nullable=False),
        sa.Column("lat_deg", sa.Float),
        sa.Column("lon_deg", sa.Float),
        sa.Column("alt_m", sa.Float),
        sa.Column("east_east_m2", sa.Float, nullable=False),
        sa.Column("east_north_m2", sa.Float, nullable=False),
        sa.Column("north_north_m2", sa.Float, nullable=False),
        sa.Column("method", sa.String, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("event_id", name="pk_event_index"),
    )
    for column in ("subject", "started_at", "ended_at"):
        op.create_index(f"ix_event_index_{column}", "event_index", [column])
    op.create_table(
        "incidents",
        sa.Column("incident_id", sa.String, nullable=False),
        sa.Column("merged_into", sa.String),
        sa.Column("changed_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("incident_id", name="pk_incidents"),
    )
    op.create_index("ix_incidents_merged_into", "incidents", ["merged_into"])
    op.create_table(
        "incident_members",
        sa.Column("event_id", sa.String, nullable=False),
        sa.Column("incident_id", sa.String, nullable=False),
        sa.Column("joined_at", _TIME, nullable=False),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("near_event_id", sa.String),
        sa.Column("distance_m", sa.Float),
        sa.Column("mahalanobis", sa.Float),
        sa.Column("gap_s", sa.Float),
        sa.Column("note", sa.String),
        sa.PrimaryKeyConstraint("event_id", name="pk_incident_members"),
        sa.ForeignKeyConstraint(
            ["incident_id"], ["incidents.incident_id"], name="fk_incident_members_incident_id"
        ),
    )
    op.create_index("ix_incident_members_incident_id", "incident_members", ["incident_id"])


def _decisions() -> None:
    op.create_table(
        "incident_decisions",
        sa.Column("decision_id", sa.Integer, nullable=False),
        sa.Column("verdict", sa.String, nullable=False),
        sa.Column("undoes", sa.Integer),
        sa.Column("who", sa.String, nullable=False),
        sa.Column("why", sa.String, nullable=False),
        sa.Column("decided_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("decision_id", name="pk_incident_decisions"),
        sa.ForeignKeyConstraint(
            ["undoes"], ["incident_decisions.decision_id"], name="fk_incident_decisions_undoes"
        ),
        sa.CheckConstraint(
            "verdict IN ('join', 'separate', 'undo')", name=op.f("ck_incident_decisions_verdict")
        ),
    )
    op.create_index("ix_incident_decisions_undoes", "incident_decisions", ["undoes"])
    op.create_table(
        "decided_events",
        sa.Column("decision_id", sa.Integer, nullable=False),
        sa.Column("event_id", sa.String, nullable=False),
        sa.Column("side", sa.Integer, nullable=False),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("outpost_id", sa.String, nullable=False),
        sa.Column("started_at", _TIME, nullable=False),
        sa.Column("ended_at", _TIME, nullable=False),
        sa.Column("lat_deg", sa.Float),
        sa.Column("lon_deg", sa.Float),
        sa.PrimaryKeyConstraint("decision_id", "event_id", name="pk_decided_events"),
        sa.ForeignKeyConstraint(
            ["decision_id"], ["incident_decisions.decision_id"], name="fk_decided_events_decision_id"
        ),
    )
    op.create_index("ix_decided_events_started_at", "decided_events", ["started_at"])


def _baseline() -> None:
    op.create_table(
        "clip_looks",
        sa.Column("clip_id", sa.String, nullable=False),
        sa.Column("flight_id", sa.String, nullable=False),
        sa.Column("started_at", _TIME, nullable=False),
        sa.Column("ground_wkb", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("clip_id", name="pk_clip_looks"),
    )
    op.create_index("ix_clip_looks_started_at", "clip_looks", ["started_at"])
    op.create_table(
        "baseline_places",
        sa.Column("place_id", sa.String, nullable=False),
        sa.Column("outpost_id", sa.String, nullable=False),
        sa.Column("lat_deg", sa.Float, nullable=False),
        sa.Column("lon_deg", sa.Float, nullable=False),
        sa.Column("radius_m", sa.Float, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("flights", sa.JSON, nullable=False),
        sa.Column("first_at", _TIME, nullable=False),
        sa.Column("last_at", _TIME, nullable=False),
        sa.Column("absent_flight", sa.String),
        sa.PrimaryKeyConstraint("place_id", name="pk_baseline_places"),
        sa.CheckConstraint(
            "state IN ('candidate', 'withdrawn', 'confirmed', 'refused', 'removed')",
            name=op.f("ck_baseline_places_state"),
        ),
    )
    op.create_index("ix_baseline_places_outpost_id", "baseline_places", ["outpost_id"])
    op.create_table(
        "baseline_decisions",
        sa.Column("decision_id", sa.Integer, nullable=False),
        sa.Column("place_id", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("who", sa.String, nullable=False),
        sa.Column("why", sa.String, nullable=False),
        sa.Column("decided_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("decision_id", name="pk_baseline_decisions"),
        sa.ForeignKeyConstraint(
            ["place_id"], ["baseline_places.place_id"], name="fk_baseline_decisions_place_id"
        ),
    )
    op.create_index("ix_baseline_decisions_place_id", "baseline_decisions", ["place_id"])
