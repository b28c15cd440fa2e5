"""Calls to API services: bounded, retried, paid once, with a typed outcome for each request.

A plugin author reads ``caller`` first.
"""
