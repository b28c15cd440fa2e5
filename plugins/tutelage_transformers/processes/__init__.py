"""Other processes: those that train together, and those that answer, one for each device."""
