"""Devices: which one a model is loaded on, and how several processes share work, each on a device of its own."""
