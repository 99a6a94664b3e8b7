"""lanes that left, nodes a person drains, and an index for a machine's history"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("node", sa.Column("drain_asked", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("node", sa.Column("instance", sa.String(), nullable=True))
    op.add_column("lane", sa.Column("left_at", sa.DateTime(), nullable=True))
    op.create_index("ix_event_lane_id_at", "event", ["lane_id", "at"], sqlite_where=sa.text("lane_id IS NOT NULL"))
