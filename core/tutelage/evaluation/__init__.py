"""Statistics over verdicts, scores and training metrics: pure functions from records to values with intervals.

No function calls a model. Records are joined by id, every value has the number of units it was computed from, and
repeated calls give identical results.
"""
