"""Look at a short embedded run in terminals of three sizes, at five moments and after Ctrl-C, by captures of tmux.

A line that the terminal had to break within a word, a figure that is cut, a bar without a name and a bar that is left
are counted; all of them should be 0. The captures are kept in the folder ``TERMINAL_CAPTURES``, if it is set.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.prove.command import SHORT, TUTELAGE

FEWER = (
    *("--set", "controls=null"),
    *("--set", "data.prompts.count=48"),
    *("--set", "evaluation.prompts.count=100"),
    *("--set", "evaluation.agreement_prompts=5"),
)
SIZES = ((80, 24), (100, 30), (160, 50))
MOMENTS = {
    "start": r"whole run .* [01]/",  # the first step takes less time than a capture
    "sampling": r"generate M1\S* .*\d answers",
    "training": r"train M\d\S* .*\d steps|train M\d\S* .*\d examples",
    "evaluating": r"generate M0\S* .*\d answers",  # the other bars of an evaluation take less time than a capture
    "end": r"(?m)^exit code 0",
}
"""The moments by a text that the screen has, all but the last one beside a bar. The last such screen is kept."""
BAR = re.compile("[━╸╺]")
PROGRESS_OF_LIBRARIES = re.compile(r"\d+%\|")
SOCKET = f"tutelage-prove-{os.getpid()}"


def prove() -> dict[str, Any]:
    if not shutil.which("tmux"):
        sys.exit("tmux is required: apt-get install tmux")
    root = Path(tempfile.mkdtemp())
    kept = Path(os.environ.get("TERMINAL_CAPTURES", root / "captures"))
    kept.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(len(SIZES)) as threads:
        sizes = [threads.submit(_size, width, height, root, kept) for width, height in SIZES]
        found = [size.result() for size in sizes]
    shutil.rmtree(root, ignore_errors=True)
    return {
        "sizes": [f"{width}x{height}" for width, height in SIZES],
        "moments": [*MOMENTS, "after Ctrl-C"],
        **{name: sum(one[name] for one in found) for name in found[0]},
    }


def _size(width: int, height: int, root: Path, kept: Path) -> dict[str, int]:
    name = f"{width}x{height}"
    screens = _watched(name, width, height, root / name, root / f"{name}.txt", stop=False)
    for moment in MOMENTS:
        if moment not in screens:
            sys.exit(f"{name}: no capture of the moment {moment!r}")
    after = _watched(name, width, height, root / f"{name}-stopped", root / f"{name}-stopped.txt", stop=True)["stopped"]
    screens["stopped"] = after
    for moment, (plain, _) in screens.items():
        (kept / f"{name}-{moment}.txt").write_text(plain, encoding="utf-8")
    return {
        "captures": len(screens),
        "broken_words": sum(_broken_words(joined, width) for _, joined in screens.values()),
        "cut_figures": sum(len(re.findall(r"\d…|…\d", plain)) for plain, _ in screens.values()),
        "bars_without_name": sum(len(PROGRESS_OF_LIBRARIES.findall(plain)) for plain, _ in screens.values()),
        "bars_left": sum(bool(BAR.search(screens[moment][0])) for moment in ("end", "stopped")),
        "without_command_to_continue": int("tutelage run --run" not in after[0].replace("\n", " ")),
    }


def _watched(name: str, width: int, height: int, run: Path, codes: Path, stop: bool) -> dict[str, tuple[str, str]]:
    """Run in a terminal, and return its screens by moment: as lines of the terminal, and with broken lines joined."""
    command = shlex.join([TUTELAGE, "run", *SHORT, *FEWER, "--run", str(run)])
    _tmux("new-session", "-d", "-s", name, "-x", str(width), "-y", str(height), f"{command}; echo exit code $?; cat")
    screens: dict[str, tuple[str, str]] = {}
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline:
        plain, joined = (_tmux("capture-pane", "-t", name, "-p", *more) for more in ((), ("-J",)))
        for moment, text in MOMENTS.items():
            if re.search(text, plain) and (moment == "end" or _is_drawn(moment, text, plain)):
                screens[moment] = plain, joined
        if stop and "training" in screens and "sent" not in screens:
            _tmux("send-keys", "-t", name, "C-c")
            screens["sent"] = screens["training"]
        if "exit code" in plain:
            screens["stopped"] = plain, joined
            break
        time.sleep(0.1)
    _tmux("kill-session", "-t", name)
    return {moment: screens[moment] for moment in (["stopped"] if stop else MOMENTS) if moment in screens}


def _is_drawn(moment: str, text: str, plain: str) -> bool:
    """Whether the text is in a line with a bar, not only in that of a finished step."""
    begin = text if moment == "start" else text.split()[0]
    return any(BAR.search(line) and re.match(begin, line) for line in plain.splitlines())


def _broken_words(joined: str, width: int) -> int:
    """The number of words that the terminal broke: lines that are longer than it, without a space at the break."""
    return sum(
        not line[at - 1].isspace() and not line[at].isspace()
        for line in map(str.rstrip, joined.splitlines())
        for at in range(width, len(line), width)
    )


def _tmux(*arguments: str) -> str:
    return subprocess.run(["tmux", "-L", SOCKET, *arguments], capture_output=True, text=True, check=True).stdout
