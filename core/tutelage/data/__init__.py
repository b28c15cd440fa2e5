"""Prompts and examples: sets by name, import of external data, and decontamination of training data."""
