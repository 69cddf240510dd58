"""what disputes do to subscriptions

Revision ID: 0022
Revises: 0021
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0022"
down_revision = "0021"

CHOICES = (
    ("dispute_lost_action", "cancel", "dispute_lost_action_is_known", "dispute_lost_action IN ('cancel', 'keep')"),
    ("dispute_open_action", "pause", "dispute_open_action_is_known", "dispute_open_action IN ('pause', 'charge')"),
)


def upgrade() -> None:
    for name, default, constraint, rule in CHOICES:
        op.add_column("workspaces", sa.Column(name, sa.String(16), server_default=default, nullable=False))
        op.create_check_constraint(constraint, "workspaces", rule)
    op.add_column("subscriptions", sa.Column("charging_paused_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("subscriptions", "charging_paused_at")
    for name, _, constraint, _ in CHOICES:
        op.drop_constraint(constraint, "workspaces", type_="check")
        op.drop_column("workspaces", name)
