"""the datasets a validation dataset was compared with"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("dataset", sa.Column("compared_with", sa.JSON(none_as_null=True), nullable=True))
