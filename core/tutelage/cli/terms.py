"""The text of a licence on the terminal, and the question whether the user accepts it."""

from __future__ import annotations

import html
import re
import sys
from pathlib import Path

import click

from tutelage.cli.output import print_status, printable
from tutelage.cli.questions import confirmed
from tutelage.errors import InputError

_HIDDEN = re.compile(r"(?is)<(head|script|style|nav|svg)\b.*?</\1>")
_BLOCK = re.compile(r"(?i)</?(p|div|h[1-6]|li|ul|ol|br|tr|section|article)\b[^>]*>")
_TAG = re.compile(r"<[^>]+>")
_ARTICLE = re.compile(r"(?is)<article\b.*?</article>|<main\b.*?</main>")


def terms_text(file: Path) -> str:
    """Return the text of a licence. Of an HTML page, this is the text of its article, without markup."""
    content = file.read_text(encoding="utf-8", errors="replace")
    if file.suffix.lower() not in (".html", ".htm"):
        return content.strip()
    article = _ARTICLE.search(content)
    visible = " ".join(_HIDDEN.sub(" ", article[0] if article else content).split())
    lines = (" ".join(html.unescape(_TAG.sub("", line)).split()) for line in _BLOCK.sub("\n", visible).split("\n"))
    return "\n".join(line for line in lines if line)


def print_terms(name: str, file: Path) -> bool:
    """Print the text of a licence on stderr. Returns true: the user has accepted it by an option."""
    print_status(f"{name}:\n\n{terms_text(file)}\n\naccepted by --accept-license")
    return True


def ask_to_accept(name: str, file: Path) -> bool:
    """Show the text of a licence and return whether the user accepts it. The end of the input is a no.

    Raises ``InputError`` if the input is not a terminal, and ``KeyboardInterrupt`` at Ctrl-C.
    """
    if not sys.stdin.isatty():
        raise InputError(
            f"the licence {name} has to be accepted, and there is no terminal to ask in; run the command in a terminal "
            "to read and accept it, or with --accept-license, which prints and accepts it"
        )
    click.echo_via_pager(printable(terms_text(file)) + "\n")
    return confirmed(f"Do you accept the {name}?")
