"""roll-ups of metrics, built for the jobs there are"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

BUILD = """
INSERT INTO rollup (job_id, curve, width, bucket, low, low_step, high, high_step, total, num_values)
SELECT DISTINCT job_id, '{curve}', {width}, step / {width},
    first_value({curve}) OVER low, first_value(step) OVER low,
    first_value({curve}) OVER high, first_value(step) OVER high,
    total({curve}) OVER every, count({curve}) OVER every
FROM metric
WINDOW every AS (PARTITION BY job_id, step / {width}),
    low AS (PARTITION BY job_id, step / {width} ORDER BY {curve} IS NULL, {curve}, step),
    high AS (PARTITION BY job_id, step / {width} ORDER BY {curve} IS NULL, {curve} DESC, step)
"""


def upgrade() -> None:
    op.create_table(
        "rollup",
        sa.Column("job_id", sa.Integer(), nullable=False),
        sa.Column("curve", sa.String(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("bucket", sa.Integer(), nullable=False),
        sa.Column("low", sa.Float(), nullable=True),
        sa.Column("low_step", sa.Integer(), nullable=False),
        sa.Column("high", sa.Float(), nullable=True),
        sa.Column("high_step", sa.Integer(), nullable=False),
        sa.Column("total", sa.Float(), nullable=False),
        sa.Column("num_values", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name="fk_rollup_job_id_job", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "curve", "width", "bucket", name="pk_rollup"),
        sqlite_with_rowid=False,
    )
    for curve in ("loss", "grad_norm"):
        for width in (16, 256, 4096):
            op.execute(BUILD.format(curve=curve, width=width))
