"""Models on disk and in memory: found, loaded, asked in one chat template, quantised, saved."""
