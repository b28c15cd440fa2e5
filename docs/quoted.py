"""Update the generated parts of the hand-written pages: output of commands, and figures from ``docs/proof.json``.

There are three kinds of generated parts:

- A console block that begins with ``$ tutelage`` shows the output of that command. If the block ends with ``...``, it
  shows only the first lines. ``runs/demo`` is replaced by the golden run of the tests.
- The text between ``<!-- quoted: NAME -->`` and ``<!-- end -->`` is written by the function of that name in
  ``quoted_blocks.BLOCKS``.
- The picture ``docs/gains.svg`` is drawn by the report's function from the figures in ``docs/proof.json``.

``--check`` writes nothing. It exits with an error if a part with figures is not up to date.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

from click.testing import CliRunner
from quoted_blocks import BLOCKS, picture

from tutelage.cli import cli

ROOT = Path(__file__).parent.parent
GOLDEN_RUN = "tests/fixtures/golden-run"
CONSOLE = re.compile(r"(```console\n\$ tutelage ([^\n]*)\n)(.*?)(```)", re.DOTALL)
QUOTED = re.compile(r"(<!-- quoted: (\S+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
PICTURE = "docs/gains.svg"
PAGES = (
    "README.md",
    "docs/tutorial.md",
    "docs/evaluation.md",
    "docs/embedded.md",
    "docs/study.md",
    "docs/data.md",
    "docs/runs.md",
    "docs/architecture.md",
    "docs/services.md",
    "docs/speed.md",
    "docs/training.md",
    "docs/models.md",
    "docs/real.md",
    "docs/write-a-plugin.md",
    "contrib/tutelage-ray/README.md",
)
FOLLOWED = "docs/write-a-plugin.md"
"""A page whose commands need its own files: ``tests.prove`` follows it, and compares what they print."""


def main() -> None:
    check = "--check" in sys.argv
    proof = json.loads((ROOT / "docs/proof.json").read_text(encoding="utf-8"))
    stale = []
    for name in PAGES:
        page = ROOT / name
        before = page.read_text(encoding="utf-8")
        after = QUOTED.sub(lambda match: match[1] + BLOCKS[match[2]](proof) + match[4], before)
        if not check and name != FOLLOWED:
            after = CONSOLE.sub(lambda match: match[1] + printed(match[2], match[3]) + match[4], after)
        if after != before:
            stale.append(name)
            if not check:
                page.write_text(after, encoding="utf-8")
    drawn, path = picture(proof), ROOT / PICTURE
    if not path.exists() or path.read_text(encoding="utf-8") != drawn:
        stale.append(PICTURE)
        if not check:
            path.write_text(drawn, encoding="utf-8")
    if check and stale:
        sys.exit(f"these pages do not match docs/proof.json: {', '.join(stale)}; run `make docs`")


def printed(command: str, shown: str) -> str:
    """Return the output of a command, cut to the number of lines that the page shows."""
    result = CliRunner().invoke(cli, shlex.split(command.replace("runs/demo", GOLDEN_RUN)))
    if result.exit_code and "error:" not in shown:
        sys.exit(f"`tutelage {command}` is shown on a page, but it fails:\n{result.output}")
    output = result.output.replace(f"{ROOT}/", "").replace(GOLDEN_RUN, "runs/demo")
    if not shown.endswith("...\n"):
        return output
    return "".join(output.splitlines(keepends=True)[: shown.count("\n") - 1]) + "...\n"


if __name__ == "__main__":
    main()
