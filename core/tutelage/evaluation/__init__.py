"""Statistics over verdicts, scores and training metrics: pure functions from records to values with intervals.

Nothing here asks a model anything. Everything joins by id, says how much it rests on, and gives the same bytes again.
"""
