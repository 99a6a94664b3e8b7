"""the datasets a validation dataset was compared with, and whose line a finding speaks of"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("dataset", sa.Column("compared_with", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("finding", sa.Column("other_dataset", sa.Integer(), nullable=True))
