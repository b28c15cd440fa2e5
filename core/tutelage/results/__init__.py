"""Results computed from the artifacts of a run or from files."""
