"""YAML as people write it: ``5e-5`` is a number here, where YAML 1.1, which PyYAML reads, would take it for text."""

from __future__ import annotations

import re
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with every usual way to write a number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def read_yaml(text: str) -> Any:
    """The plain values of a YAML text. Raises ``yaml.YAMLError`` where it is not YAML."""
    return yaml.load(text, Loader=_Loader)
