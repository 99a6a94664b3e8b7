"""how a version of a dataset was made from its parent, and the datasets of a job that mixes several"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("dataset", sa.Column("made", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("job", sa.Column("datasets", sa.JSON(none_as_null=True), nullable=True))
