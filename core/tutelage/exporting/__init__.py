"""A model of a run for others: a copy of its checkpoint with a whole model card, converted and published if asked."""
