"""Reading and writing plain files: JSON lines, YAML, typed settings, and the row formats that TRL reads."""
