"""the same card saved again is the same method, and a default that is taken away has a successor

Revision ID: 0021
Revises: 0020
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    op.add_column(
        "payment_methods", sa.Column("default_chosen", sa.Boolean(), server_default=sa.text("true"), nullable=False)
    )
    op.create_table(
        "replaced_tokens",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("payment_method_id", sa.Uuid(), nullable=False),
        sa.Column("provider_account_id", sa.Uuid(), nullable=False),
        sa.Column("token", sa.LargeBinary(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_replaced_tokens")),
        sa.ForeignKeyConstraint(
            ["payment_method_id"], ["payment_methods.id"], name=op.f("fk_replaced_tokens_payment_method_id")
        ),
        sa.ForeignKeyConstraint(
            ["provider_account_id"], ["provider_accounts.id"], name=op.f("fk_replaced_tokens_provider_account_id")
        ),
        sa.UniqueConstraint(
            "payment_method_id", "token_hash", name=op.f("uq_replaced_tokens_payment_method_id_token_hash")
        ),
    )
    op.create_index("ix_replaced_tokens_token", "replaced_tokens", ["provider_account_id", "token_hash"])


def downgrade() -> None:
    op.drop_table("replaced_tokens")
    op.drop_column("payment_methods", "default_chosen")
