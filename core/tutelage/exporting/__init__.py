"""Export of a model of a run: a copy of its checkpoint with a model card, optionally converted and published."""
