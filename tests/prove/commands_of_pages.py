"""The commands and files of the pages that are followed, in the order in which a reader meets them."""

import re
from pathlib import Path

from attrs import frozen

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/tutorial.md")
"""The pages that are followed one after the other, in one clone."""
PLUGIN_PAGE = "docs/write-a-plugin.md"
"""The page that is followed in an empty folder."""
_BLOCK = re.compile(r'^```(\w*)(?: title="([^"]+)")?\n(.*?)^```$', re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"# (\S+\.yaml)\n")
_COMMAND = re.compile(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
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
    """``sh`` (a command), ``python`` (a program) or ``file``."""
    text: str
    name: str = ""
    """Name of the file."""
    code: int = 0
    """The exit code that the page shows."""
    output: str = ""
    """The output that the page shows; a line ``...`` is any number of lines."""

    @property
    def title(self) -> str:
        """The command, the name of the file, or the first line of the program."""
        return self.name if self.kind == "file" else command_of(self.text).partition("\n")[0]

    def prints(self, output: str) -> bool:
        """Whether the output of the command is the one that the page shows. It is if the page shows none."""
        shown = re.escape(self.output).replace(re.escape("...\n"), "(?:.*\n)*")
        return not self.output or re.fullmatch(shown, output) is not None


def followed(page: str) -> list[Followed]:
    """Return what a reader of the page does, in order. Raises ValueError for a block of an unknown language."""
    found: list[Followed] = []
    for language, title, text in _BLOCK.findall((ROOT / page).read_text(encoding="utf-8")):
        if title:
            found.append(Followed("file", text, title))
        elif language == "sh":
            found += [Followed("sh", line) for line in text.splitlines()]
        elif language == "console":
            code = 2 if "\nerror:" in text else 0
            for command, output in _COMMAND.findall(text):
                found.append(Followed("sh", command, code=code, output=output))
        elif language == "yaml":
            if match := _FILE.match(text):
                found.append(Followed("file", text, match[1]))
        elif language == "python":
            found.append(Followed("python", text))
        elif language not in TEXT:
            raise ValueError(f"{page}: a block in the language {language!r}, which nothing follows")
    return found


def command_of(line: str) -> str:
    """Return a line without its comment."""
    return line.partition("    #")[0].strip()
