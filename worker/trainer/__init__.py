"""The training engine: reads a job directory, writes events, checkpoints and an adapter. Knows no server."""
