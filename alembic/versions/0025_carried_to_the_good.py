"""what is carried to a payout may be to the good of the referrer

Revision ID: 0025
Revises: 0024
"""

from __future__ import annotations

from alembic import op

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    op.drop_constraint("amount_is_gross_less_debt", "payout_lines", type_="check")
    op.create_check_constraint("amount_is_gross_and_carried", "payout_lines", "amount = gross + carried")


def downgrade() -> None:
    op.drop_constraint("amount_is_gross_and_carried", "payout_lines", type_="check")
    # lines that were paid so stay as they are: only new ones are held to the older rule
    op.execute(
        "ALTER TABLE payout_lines ADD CONSTRAINT ck_payout_lines_amount_is_gross_less_debt "
        "CHECK (carried <= 0 AND amount = gross + carried) NOT VALID"
    )
