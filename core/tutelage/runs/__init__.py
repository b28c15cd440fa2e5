"""A run on disk: its store, durable work, and readers of a run."""
