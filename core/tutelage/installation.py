"""Commands that install an extra of tutelage or a plugin of its checkout, for messages about what is missing."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import unquote, urlsplit


def install_command(extra: str) -> str:
    """Return the command that installs an extra of tutelage in the way in which tutelage itself was installed.

    It names the checkout, the file or the git address from which tutelage was installed (``direct_url.json``, PEP 610).
    """
    try:
        text = distribution("tutelage").read_text("direct_url.json")
    except PackageNotFoundError:  # imported from a source tree that was never installed
        text = json.dumps({"url": Path(__file__).parents[2].as_uri(), "dir_info": {"editable": True}})
    return f"{_pip()} install {requirement(extra, json.loads(text) if text else {})}"


def plugin_of_checkout(name: str) -> str | None:
    """Return the command that installs the package ``contrib/tutelage-NAME`` of the checkout that tutelage runs from.

    None if tutelage does not run from a checkout, or if that has no such package.
    """
    folder = Path(__file__).parents[2] / "contrib" / f"tutelage-{name}"
    is_there = bool(name) and "/" not in name and (folder / "pyproject.toml").is_file()
    return f"{_pip()} install {shlex.quote(str(folder))}" if is_there else None


def _pip() -> str:
    """The command ``pip``; if the one on the PATH is not that of this Python, pip is run with this Python."""
    found = shutil.which("pip")
    is_own = found is not None and Path(found).parent == Path(sys.executable).parent
    return "pip" if is_own else f"{shlex.quote(sys.executable)} -m pip"


def requirement(extra: str, origin: dict[str, object]) -> str:
    """Return the arguments of ``pip install`` that name tutelage with an extra.

    ``origin`` is the content of ``direct_url.json``; it is empty after an installation from a package index.
    """
    url, folder, vcs = (origin.get(key) for key in ("url", "dir_info", "vcs_info"))
    if isinstance(folder, dict):
        editable = "--editable " if folder.get("editable") else ""
        return editable + shlex.quote(f"{unquote(urlsplit(str(url)).path)}[{extra}]")
    if isinstance(vcs, dict):
        revision = vcs.get("requested_revision") or vcs["commit_id"]
        return shlex.quote(f"tutelage[{extra}] @ {vcs['vcs']}+{url}@{revision}")
    return shlex.quote(f"tutelage[{extra}] @ {url}" if url else f"tutelage[{extra}]")
