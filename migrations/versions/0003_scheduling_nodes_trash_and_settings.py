"""what the queue needs: needs, dependencies, times, preemption; labels of lanes, a node's clock, black boxes, trash"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("job", sa.Column("needs", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("job", sa.Column("depends_on", sa.JSON(), nullable=False, server_default="[]"))
    op.add_column("job", sa.Column("start_after", sa.DateTime(), nullable=True))
    op.add_column("job", sa.Column("max_duration_s", sa.Float(), nullable=True))
    op.add_column("job", sa.Column("sample_asked", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("job", sa.Column("makes_way_for", sa.Integer(), nullable=True))
    op.add_column("attempt", sa.Column("black_box", sa.JSON(none_as_null=True), nullable=True))
    for table in ("job", "dataset", "checkpoint", "adapter"):
        op.add_column(table, sa.Column("trashed_at", sa.DateTime(), nullable=True))
    op.add_column("node", sa.Column("address", sa.String(), nullable=True))
    op.add_column("node", sa.Column("clock_skew_s", sa.Float(), nullable=True))
    op.add_column("node", sa.Column("left_at", sa.DateTime(), nullable=True))
    op.add_column("lane", sa.Column("labels", sa.JSON(), nullable=False, server_default="[]"))
    op.create_table(
        "setting",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("value", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("changed_at", sa.DateTime(), nullable=False),
    )
