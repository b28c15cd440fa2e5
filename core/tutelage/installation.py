"""The command that installs an extra of tutelage, for messages about a missing library."""

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
    If the ``pip`` on the PATH is not that of this Python, the command runs pip with this Python.
    """
    found = shutil.which("pip")
    is_own = found is not None and Path(found).parent == Path(sys.executable).parent
    pip = "pip" if is_own else f"{shlex.quote(sys.executable)} -m pip"
    try:
        text = distribution("tutelage").read_text("direct_url.json")
    except PackageNotFoundError:  # imported from a source tree that was never installed
        text = json.dumps({"url": Path(__file__).parents[2].as_uri(), "dir_info": {"editable": True}})
    return f"{pip} install {requirement(extra, json.loads(text) if text else {})}"


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
