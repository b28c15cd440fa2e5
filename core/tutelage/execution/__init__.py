"""Executing a plan: the runner, and one action per kind of step."""
