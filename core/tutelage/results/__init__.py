"""From the artifacts of a run, or from files, to figures."""
