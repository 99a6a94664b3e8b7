"""What a dataset may be packed into. What is not plain JSONL is written once as JSONL, which all else reads.

JSONL, a JSON array, CSV, Parquet; gzip or zstd around each; a zip or tar with images beside the one data file
"""
