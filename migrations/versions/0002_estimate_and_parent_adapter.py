"""the estimate of a job, and the adapter it goes on from"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("job", sa.Column("estimate", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("job", sa.Column("from_adapter_id", sa.Integer(), nullable=True))
