"""What the farm remembers: SQL for facts and summaries, content-addressed blobs for bytes."""
