"""the rates of VAT of a workspace, by the day from which each holds

Without entries the rate of today, vat_rate, holds for every day, as before.

Revision ID: 0023
Revises: 0022
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from alembic import op

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    op.add_column("workspaces", sa.Column("vat_rates", JSONB(), server_default=sa.text("'[]'::jsonb"), nullable=False))


def downgrade() -> None:
    op.drop_column("workspaces", "vat_rates")
