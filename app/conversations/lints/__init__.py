"""What makes a record a bad teacher, one small file a kind; severities and thresholds stand in `kinds`.

Three sorts of lint, by what they must see:

    find(record)            one record alone: `local.LINTS`
    find(columns, ...)      all records, by hashes and counts kept in `columns.Columns`: `whole.LINTS`
    near_duplicate          all records, by MinHash

Where a fault can be mended, `repair(value, field)` stands in the same file; `repairs.REPAIRS` lists them.
"""
