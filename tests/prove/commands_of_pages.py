"""The commands of the README and of the tutorial, in the order in which a reader meets them."""

import re
from pathlib import Path

from attrs import frozen

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/tutorial.md")
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"# (\S+\.yaml)\n")
TEXT = ("", "text")
"""Languages of the blocks that contain nothing to run."""
RUN_BY_CI = {"make test": "it runs the whole suite, this check included; .ci/run runs it"}
"""Commands of the pages that are not followed, each with the reason."""
STAND_INS = {
    "tutelage recipes prepare small-gpu/no-paid-api": "the hub: the folder OpenAssistant/oasst1 with the trees of "
    "tests/fixtures/oasst_trees.py, and a hub cache with AlpacaEval's file of three instructions",
    "tutelage recipes copy small-gpu/no-paid-api": "a GPU: the copy is cut to tests/fixtures/one_percent.py",
    "tutelage plan": "Ollama: tests/fixtures/servers/serve.py, with OpenAI's protocol, at port 11434",
    "tutelage run": "the hub: a hub cache with the tiny student's weights as Qwen/Qwen2.5-0.5B",
}
"""The beginnings of the commands that need a hub, a GPU or a service, with the local stand-ins that replace it."""


@frozen
class Followed:
    """One thing that a reader does: a command, a program, or a file that is written."""

    kind: str
    """``sh`` (a command), ``python`` (a program) or ``yaml`` (a file)."""
    text: str
    name: str = ""
    """Name of the file."""
    code: int = 0
    """The exit code that the page shows."""


def followed(page: str) -> list[Followed]:
    """Return what a reader of the page does, in order. Raises ValueError for a block of an unknown language."""
    found: list[Followed] = []
    for language, text in _BLOCK.findall((ROOT / page).read_text(encoding="utf-8")):
        if language == "sh":
            found += [Followed("sh", line) for line in text.splitlines()]
        elif language == "console":
            code = 2 if "\nerror:" in text else 0
            found += [Followed("sh", line[2:], code=code) for line in text.splitlines() if line.startswith("$ ")]
        elif language == "yaml":
            if match := _FILE.match(text):
                found.append(Followed("yaml", text, match[1]))
        elif language == "python":
            found.append(Followed("python", text))
        elif language not in TEXT:
            raise ValueError(f"{page}: a block in the language {language!r}, which nothing follows")
    return found


def command_of(line: str) -> str:
    """Return a line without its comment."""
    return line.partition("    #")[0].strip()
