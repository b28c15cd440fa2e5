"""Models on disk and in memory: found, loaded, templated, quantised, saved."""
