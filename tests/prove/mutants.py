"""Change the source in small ways, and count the changes that the tests of the changed module find.

python -m tests.prove mutants              # a sample of every module
python -m tests.prove.mutants pairing ...  # of the named modules, kept in docs/proof.json beside the others
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from tests.prove.mutating import Mutant, mutants_of
from tests.test_structure import COVERED_BY, mirrored

ROOT = Path(__file__).parents[2]
SEED = 0
CORE, TRAINING = "core/tutelage", "plugins/tutelage_transformers/training"
MODULES = {  # those that take the longest are first, so that the processes end at about the same time
    "runner": (f"{CORE}/execution/runner.py",),
    "training": (f"{TRAINING}/*.py",),
    "judging": (f"{CORE}/preferences/judging.py",),
    "pairing": (f"{CORE}/preferences/pairing.py",),
    "stages": (f"{CORE}/plugins/stages.py",),
    "store": (f"{CORE}/runs/store.py",),
    "calling": tuple(f"{CORE}/services/{name}.py" for name in ("caller", "attempts", "ledger")),
    "data": (f"{CORE}/data/*.py",),
    "measures": (
        f"{CORE}/planning/evaluation_plan.py",
        *(f"{CORE}/results/{name}.py" for name in ("score_files", "verdict_files")),
    ),
    "summarise": (f"{CORE}/results/summarise.py",),
    "evaluation": (f"{CORE}/evaluation/*.py",),
}
SAMPLE = dict.fromkeys(MODULES, 30) | {"training": 10}
ALSO_TESTED_BY = {
    "arguments": "checking",
    "cpu_memory": "fitting",
    "gathering": "several_devices",
    "launching": "several_devices",
    "member": "together",
    "published_losses": "pair_losses",
    "request": "several_devices",
    "routing": "families",
    "worker": "several_devices",
}
"""Test modules of modules in ``TRAINING``, beside that of the same name."""
ROOMS = {"runner": "tests/core/execution"}
"""Modules that are also tested by the test modules of their room that belong to no module alone."""
ALSO = {"summarise": ("tests/core/execution/test_measuring.py",)}
"""Further test modules, which run what is tested: differences of measures."""
ONLY_ON_A_GPU = {"capturing", "graphs"}
"""Modules of ``TRAINING`` of which much is tested on a GPU only. They have no mutants."""
EQUIVALENT = Path(__file__).with_name("equivalent_mutants.yaml")
"""Mutants that behave as the original does, each with the reason. Others take their places in the sample."""


def prove(names: Iterable[str] = MODULES, processes: int = os.cpu_count() or 1) -> dict[str, Any]:
    """Return the results by module. Each process works in its own copy of the tree, on one module at a time."""
    started = time.monotonic()
    with ThreadPoolExecutor(processes) as pool:
        results = dict(zip(names, pool.map(_measure, names), strict=True))
    return {"modules": results, "seconds_of_all": round(time.monotonic() - started)}


def sample(name: str, seed: int = SEED) -> tuple[list[Mutant], dict[str, str]]:
    """Return the mutants of a module that are tried, and the equivalent ones that were drawn, with the reasons.

    The rank of a mutant depends on its key only: a change of other code does not change the sample.
    """
    known = yaml.safe_load(EQUIVALENT.read_text(encoding="utf-8")) or {}
    files = [file for pattern in MODULES[name] for file in sorted(ROOT.glob(pattern)) if file.stem not in ONLY_ON_A_GPU]
    mutants = [one for file in files for one in mutants_of(str(file.relative_to(ROOT)), file.read_bytes())]
    mutants.sort(key=lambda mutant: hashlib.sha256(f"{seed} {mutant.key}".encode()).digest())
    tried: list[Mutant] = []
    equivalent: dict[str, str] = {}
    for mutant in mutants:
        if len(tried) == SAMPLE[name]:
            break
        if mutant.key in known:
            equivalent[mutant.key] = known[mutant.key]
        else:
            tried.append(mutant)
    return tried, equivalent


def modules_that_test(files: Iterable[str]) -> list[str]:
    """Return the test modules of source files, by the rules of ``tests/test_structure.py``."""
    tests: dict[Path, None] = {}
    for file in files:
        path = Path(file)
        if path.parts[0] == "plugins":
            folder = ROOT / "tests/plugins/transformers"
            names = (path.stem, ALSO_TESTED_BY.get(path.stem), "training")
            found = [folder / f"test_{name}.py" for name in names]
        else:
            module = ".".join(path.with_suffix("").parts[1:])
            own = ROOT / "tests/core" / COVERED_BY[module] if module in COVERED_BY else mirrored(module)
            found = [own, *own.parent.glob(f"{own.stem}_*.py")]
        tests |= dict.fromkeys(test for test in found if test.is_file())
    return [str(test.resolve().relative_to(ROOT)) for test in tests]


def _measure(name: str) -> dict[str, Any]:
    tried, equivalent = sample(name)
    files = sorted({mutant.file for mutant in tried})
    tests = [*modules_that_test(files), *ALSO.get(name, ())]
    if name in ROOMS:
        known = {path.stem for path in (ROOT / Path(MODULES[name][0]).parent).glob("*.py")}
        room = sorted((ROOT / ROOMS[name]).glob("test_*.py"))
        tests += [str(test.relative_to(ROOT)) for test in room if test.stem.removeprefix("test_") not in known]
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        tree = _copy(Path(folder))
        survivors = []
        with _server(tree) as server:
            first = _ask(server, {"files": files, "tests": tests})
            if first["status"]:
                sys.exit(f"{name}: the tests fail without a mutant:\n{(tree / 'mutants-output.txt').read_text()}")
            for mutant in tried:
                text = mutant.apply((tree / mutant.file).read_bytes()).decode()
                request = {"files": files, "tests": tests, "file": mutant.file, "text": text, "line": mutant.line}
                answer = _ask(server, request)
                if not answer["status"]:
                    survivors.append(mutant.key)
                outcome = "killed" if answer["status"] else "SURVIVED"
                print(f"{name}: {outcome} in {answer['seconds']} s: {mutant.key}", flush=True)
            assert server.stdin
            server.stdin.close()
    return {
        "mutants": len(tried),
        "killed": len(tried) - len(survivors),
        "survivors": survivors,
        "equivalent": equivalent,
        "tests": tests,
        "seconds_of_tests": first["seconds"],
        "seconds": round(time.monotonic() - started),
    }


def _copy(folder: Path) -> Path:
    """Copy the files that git tracks, or would track; the environment and the published data are linked."""
    tree = folder / "tree"
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines():
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    for link, target in ((tree / ".venv", ROOT / ".venv"), (folder / "shared", ROOT.parent / "shared")):
        link.symlink_to(target)
    return tree


def _server(tree: Path) -> subprocess.Popen[str]:
    paths = [tree / "core", tree / "plugins", *sorted((tree / "contrib").iterdir())]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths)), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, str(tree / "tests/prove/mutant_runs.py")],
        cwd=tree,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _ask(server: subprocess.Popen[str], request: dict[str, Any]) -> dict[str, Any]:
    assert server.stdin and server.stdout
    server.stdin.write(json.dumps(request) + "\n")
    server.stdin.flush()
    answer: dict[str, Any] = json.loads(server.stdout.readline())
    return answer


def main(names: list[str]) -> None:
    from tests.prove.__main__ import PROOF

    for name in names:
        results = prove([name])["modules"]
        proof = json.loads(PROOF.read_text())
        proof.setdefault("mutants", {"modules": {}})["modules"].update(results)
        PROOF.write_text(json.dumps(proof, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
