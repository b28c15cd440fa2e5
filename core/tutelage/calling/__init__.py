"""One way to call a service, for every plugin: bounded, retried, paid once, with a typed outcome for each request.

See ``Caller`` for what a plugin writes.
"""

from tutelage.calling.budget import Budget
from tutelage.calling.caller import Caller, Tally
from tutelage.calling.problems import CallError, Permanent, Refused, Transient, Unusable, retry_after
from tutelage.calling.records import Answer, Ask, Endpoint, Limits, Reply, Request
from tutelage.prices import Price

__all__ = [
    "Answer",
    "Ask",
    "Budget",
    "CallError",
    "Caller",
    "Endpoint",
    "Limits",
    "Permanent",
    "Price",
    "Refused",
    "Reply",
    "Request",
    "Tally",
    "Transient",
    "Unusable",
    "retry_after",
]
