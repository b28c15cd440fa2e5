"""Change the recipe of a finished embedded run in many ways. Each result must be that of a fresh run, byte for byte.

``dpo.beta`` is changed on the whole embedded recipe, the other keys on a short one.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from interrupted_runs import artifacts_of
from tests.prove.command import SHORT, measure

CHANGES = {
    "judge's temperature": ("judging.temperature=0.5",),
    "pair rule": ("pipelines.self-reward.pairs.rule=all-ordered",),
    "one more seed": ("seeds=[0,1]",),
    "one more pipeline": ("pipelines.teacher-reward={}",),
    "one more iteration": ("iterations=2",),
    "evaluation set": ("evaluation.prompts.count=80",),
    "neutral setting": ("models.student.settings.batch_size=64",),
}


def prove() -> dict[str, Any]:
    root = Path(tempfile.mkdtemp())
    measure("run", "embedded", "--run", str(root / "embedded"))
    found = {"dpo.beta": _changed(root, root / "embedded", ("embedded",), ("dpo.beta=1.0",))}
    without = ("--set", "pipelines.teacher-reward=null")
    measure("run", *SHORT, "--run", str(root / "short"))
    measure("run", *SHORT, *without, "--run", str(root / "less"))
    for name, keys in CHANGES.items():
        base = root / ("less" if name == "one more pipeline" else "short")
        found[name] = _changed(root, base, SHORT, keys)
        print(name, found[name], flush=True)
    shutil.rmtree(root)
    return found


def _changed(root: Path, base: Path, recipe: tuple[str, ...], keys: tuple[str, ...]) -> dict[str, Any]:
    """Change a copy of a run, and make a fresh one."""
    changed, fresh = root / "changed", root / "fresh"
    shutil.copytree(base, changed)
    before = {path: _identity(changed / path) for path in _outputs(changed)}
    overrides = [part for key in keys for part in ("--set", key)]
    seconds = [measure("run", *recipe, *overrides, "--run", str(folder)).wall_seconds for folder in (changed, fresh)]
    kept = [path for path, identity in before.items() if _identity(changed / path) == identity]
    made = {path: data for path, data in artifacts_of(changed).items() if not path.startswith(".replaced/")}
    equal = made == artifacts_of(fresh)
    shutil.rmtree(changed)
    shutil.rmtree(fresh)
    return {
        "equal_to_a_fresh_run": equal,
        "artifacts_kept": len(kept),
        "artifacts_before": len(before),
        "seconds": {"changed": round(seconds[0], 1), "fresh": round(seconds[1], 1)},
    }


def _outputs(folder: Path) -> list[str]:
    rows = (json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines())
    return list(dict.fromkeys(row["output"] for row in rows))


def _identity(path: Path) -> tuple[int, int] | None:
    return (path.stat().st_ino, path.stat().st_mtime_ns) if path.exists() else None
