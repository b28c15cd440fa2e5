"""What ``tutelage evaluate`` reads besides a run of its own: files of scores, answers and verdicts."""
