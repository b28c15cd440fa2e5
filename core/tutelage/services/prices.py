"""The cost of a request to a paid service.

Prices come from the user's ``price`` setting, or from ``genai-prices``, a maintained table that the plugin extras
install. If neither has a price, the cost is None and is reported as unknown, never estimated.
"""

from __future__ import annotations

from functools import lru_cache

from attrs import field, frozen, validators


@frozen
class Price:
    """The user's price for a model, in US dollars per million tokens; 0 for a server that is free of charge."""

    input: float = field(validator=validators.ge(0.0))
    """US dollars per million input tokens."""
    output: float = field(validator=validators.ge(0.0))
    """US dollars per million output tokens."""


def cost(base_url: str, model: str, input_tokens: int, output_tokens: int, price: Price | None = None) -> float | None:
    """Return US dollars for one request, or None if the price is unknown.

    ``price`` takes precedence over the table. The table is searched by the address of the service, so that a model with
    a well-known name at another address does not get the price of the well-known service.
    """
    if price is not None:
        return (input_tokens * price.input + output_tokens * price.output) / 1e6
    if not _listed(base_url, model):
        return None
    import genai_prices

    usage = genai_prices.Usage(input_tokens=input_tokens, output_tokens=output_tokens)
    return float(genai_prices.calc_price(usage, model, provider_api_url=base_url).total_price)


@lru_cache
def _listed(base_url: str, model: str) -> bool:
    """Whether the price table is installed and has the model at that address."""
    try:
        import genai_prices

        genai_prices.calc_price(genai_prices.Usage(input_tokens=1), model, provider_api_url=base_url)
    except (ImportError, LookupError):
        return False
    return True
