"""Calls to API services: limited, retried, stored in a ledger, with a typed outcome for each request.

Plugin authors start with ``caller``.
"""
