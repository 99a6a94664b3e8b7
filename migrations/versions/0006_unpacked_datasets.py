"""how a dataset's file is read where its keys do not say so, and the lines it was unpacked into"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("dataset", sa.Column("reading", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("dataset", sa.Column("unpacked", sa.JSON(none_as_null=True), nullable=True))
