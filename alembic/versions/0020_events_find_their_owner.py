"""events keep what they name, so that their owner can be looked for again

Revision ID: 0020
Revises: 0019
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from alembic import op

revision = "0020"
down_revision = "0019"

UNMATCHED = sa.text("status = 'unmatched'")
SOME = sa.text("other_ids <> '{}'")


def _names(column: str, length: int) -> sa.Column[list[str]]:
    return sa.Column(column, ARRAY(sa.String(length)), server_default=sa.text("'{}'"), nullable=False)


def upgrade() -> None:
    op.add_column("webhook_events", _names("named", 300))
    op.add_column("attempts", _names("other_ids", 255))
    op.create_index("ix_webhook_events_unmatched", "webhook_events", ["next_attempt_at"], postgresql_where=UNMATCHED)
    op.create_index(
        "ix_webhook_events_unmatched_named",
        "webhook_events",
        ["named"],
        postgresql_using="gin",
        postgresql_where=UNMATCHED,
    )
    op.create_index("ix_attempts_other_ids", "attempts", ["other_ids"], postgresql_using="gin", postgresql_where=SOME)


def downgrade() -> None:
    op.drop_index("ix_attempts_other_ids", table_name="attempts", postgresql_where=SOME)
    op.drop_index("ix_webhook_events_unmatched_named", table_name="webhook_events", postgresql_where=UNMATCHED)
    op.drop_index("ix_webhook_events_unmatched", table_name="webhook_events", postgresql_where=UNMATCHED)
    op.drop_column("attempts", "other_ids")
    op.drop_column("webhook_events", "named")
