"""A run on disk: its store, the durable calls of stages, and the reading of runs."""
