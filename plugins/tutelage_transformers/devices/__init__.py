"""Devices: the one that a model is loaded on, and how several processes share work, each on its own device."""
