"""The README and the tutorial, followed in order in a fresh clone.

Every command runs as it is written, on the reader's own ``runs/demo``. ``commands_of_pages.STAND_INS`` names the local
stand-ins for the hub, a GPU and a service.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.prove.command import follow
from tests.prove.commands_of_pages import PAGES, ROOT, RUN_BY_CI, Followed, command_of, followed

from tutelage.recipe.loading import load_recipe, to_yaml
from tutelage_tiny import WEIGHTS

sys.path.append(str(ROOT / "tests/fixtures"))

import oasst_trees
from one_percent import ONE_PERCENT

PORT = 11434
"""Ollama's port, which the recipe names."""
CHAT = "sort these words with commas: pear cat blue owl\n"


def prove() -> dict[str, Any]:
    """Follow the pages. Exits with the output of the first command that fails."""
    work = Path(tempfile.mkdtemp())
    clone, hub = work / "tutelage", work / "hub"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    _write_hub(hub, clone)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "VIRTUAL_ENV"))}
    environment |= {"HF_HOME": str(hub), "HF_HUB_OFFLINE": "1", "TUTELAGE_CACHE": str(work / "cache"), "COLUMNS": "120"}
    commands: list[dict[str, Any]] = []
    with _service():
        for page in PAGES:
            activated = ""
            for one in followed(page):
                started = time.monotonic()
                activated = _follow(one, clone, environment, activated)
                commands.append({"page": page, "command": one.title, "seconds": round(time.monotonic() - started, 1)})
                print(json.dumps(commands[-1]), flush=True)
    shutil.rmtree(work)
    return {"commands": commands, "seconds_of_commands": round(sum(one["seconds"] for one in commands), 1)}


def _follow(one: Followed, clone: Path, environment: dict[str, str], activated: str) -> str:
    """Do one thing in the clone. Returns the command that activates the environment, once the reader has given it."""
    command = command_of(one.text)
    if command in RUN_BY_CI:
        return activated
    if command.endswith("/activate"):
        activated = f"{command}\n"
    follow(one, clone, environment, activated, CHAT)
    if command.startswith("tutelage recipes copy "):
        copy = clone / command.split()[-1]
        changes = {**ONE_PERCENT, "pipelines.teacher-reward.judging.rubric": "additive"}
        copy.write_text(to_yaml(load_recipe(copy, changes)), encoding="utf-8")
    return activated


def _write_hub(hub: Path, clone: Path) -> None:
    """Write the stand-ins for the hub: its cache, and a folder that `datasets` reads instead of the data set."""
    student = _repository(hub, "models--Qwen--Qwen2.5-0.5B")
    shutil.copytree(WEIGHTS, student)
    alpaca = _repository(hub, "datasets--tatsu-lab--alpaca_eval")
    alpaca.mkdir(parents=True)
    rows = [{"instruction": text} for text in ("Name a lake.", "Name a hill.", "Name a road.")]
    (alpaca / "alpaca_eval.json").write_text(json.dumps(rows))
    trees = clone / "OpenAssistant/oasst1"
    trees.mkdir(parents=True)
    oasst_trees.write(trees / "train.jsonl", oasst_trees.MESSAGES)


def _repository(hub: Path, name: str) -> Path:
    """Return the folder of a repository's files in the hub's cache; it does not exist yet."""
    folder, revision = hub / "hub" / name, "0" * 40
    (folder / "refs").mkdir(parents=True)
    (folder / "refs/main").write_text(revision)
    return folder / "snapshots" / revision


@contextmanager
def _service() -> Iterator[None]:
    """Run the stand-in for Ollama."""
    command = [sys.executable, str(ROOT / "tests/fixtures/servers/serve.py"), "openai", "--port", str(PORT)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield
        finally:
            process.terminate()
