"""YAML reader that accepts ``5e-5`` as a number. PyYAML, which follows YAML 1.1, would read it as text."""

from __future__ import annotations

import re
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, extended by numbers with an exponent."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def read_yaml(text: str) -> Any:
    """Parse a YAML text into plain values. Raises ``yaml.YAMLError`` if it is not YAML."""
    return yaml.load(text, Loader=_Loader)
