"""Reading and writing of files: JSON lines, YAML, typed settings, and the row formats of TRL."""
