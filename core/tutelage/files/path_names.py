"""Names that are a part of the paths in a run: of artifacts, judges and measures, and of what plugins offer."""

from __future__ import annotations

import re


def is_path_name(name: str) -> bool:
    """Return whether a name can be a part of a path: small letters, digits, and single hyphens between them."""
    return re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) is not None
