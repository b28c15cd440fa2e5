"""Runs whose sampling and judging is spread over a Ray cluster of two nodes on this machine, against one process.

Needs contrib/tutelage-ray and ray: ``pip install --editable contrib/tutelage-ray``. A node has one CPU and 200 MB of
object store. For the killed node, the actors run a plugin that notes each prompt and answers by ``transformers``.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen
from tests.prove.command import TUTELAGE

RECIPE = "contrib/tutelage-ray/embedded.yaml"
SETTINGS = {
    "generation.n": 8,
    "evaluation.prompts.count": 40,
    "evaluation.agreement_prompts": 20,
    "sft.epochs": 1,
    "dpo.epochs": 1,
}
CANDIDATES = "seed-0/M1/samples/candidates.jsonl"
JUDGEMENTS = "seed-0/self-reward/M2/judgements.jsonl"
NOTED = "noted.jsonl"
NODE = {"num_cpus": 1, "object_store_memory": 200 * 2**20, "include_dashboard": False}
NOTING = '''
"""The plugin transformers, which also notes each prompt that it is asked to answer, with its process."""

import json
import os
from pathlib import Path

import tutelage_transformers
from tutelage import PluginInfo, hookimpl
from tutelage_transformers.settings import TransformersSettings


@hookimpl
def describe():
    return PluginInfo("Notes prompts.", settings=TransformersSettings)


def noted(model, prompts):
    with Path(os.environ["NOTED"]).open("a", buffering=1) as log:
        for prompt in prompts:
            log.write(json.dumps([prompt.id, os.getpid()]) + "\\n")
            yield prompt


@hookimpl
def generate_candidates(model, prompts, n, sampling, context):
    return tutelage_transformers.generate_candidates(model, noted(model, prompts), n, sampling, context)


@hookimpl
def judge(model, items, rubric, samples, sampling, score, context):
    return tutelage_transformers.judge(model, items, rubric, samples, sampling, score, context)
'''


@frozen
class Nodes:
    """A cluster of two nodes, of which one can be killed."""

    cluster: Any

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def kill(self) -> None:
        [other] = self.cluster.worker_nodes
        self.cluster.remove_node(other, allow_graceful=False)


def prove() -> dict[str, Any]:
    """Time both ways, compare all files, and kill a node in the middle of a step."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        _install_noting(root / "site")
        load, one, two = os.getloadavg()[0], root / "one", root / "two"
        _finish(_start(one, None))
        with _two_nodes() as nodes:
            _finish(_start(two, nodes.address))
        seconds, spread = _seconds(one), _seconds(two)
        return {
            "load_before": round(load, 1),
            "candidates": _lines(one / CANDIDATES),
            "judgements": _lines(one / JUDGEMENTS),
            **_compared(one, two),
            "seconds_of_one_process": seconds,
            "seconds_of_two_nodes": spread,
            "ratio": {step: round(seconds[step] / spread[step], 2) for step in seconds},
            "killed": _prove_kill(root, one),
        }


def _prove_kill(root: Path, expected: Path) -> dict[str, Any]:
    """Kill a node while both work on the candidates. What was stored before must not be asked again."""
    folder, noted = root / "killed", root / NOTED
    with _two_nodes() as nodes:
        process = _start(folder, nodes.address, "noting")
        _until(lambda: len(_stored(folder)) > 0 and len({pid for _, pid in _noted(noted)}) == 2, process)
        stored, asked = _stored(folder), len(_noted(noted))
        nodes.kill()
        _finish(process)
    sampled = {row["prompt_id"] for row in _rows(folder / CANDIDATES)}
    prompts = [id for id, _ in _noted(noted) if id in sampled]  # not those of the evaluation
    return {
        "stored_before": len(stored),
        **_compared(expected, folder),
        "stored_and_asked_again": len(stored.intersection(prompts[asked:])),
        "asked_twice": sum(times > 1 for times in Counter(prompts).values()),
    }


@contextmanager
def _two_nodes() -> Iterator[Nodes]:
    try:
        from ray.cluster_utils import Cluster
    except ImportError:
        sys.exit("ray is not installed; run: pip install --editable contrib/tutelage-ray")
    cluster = Cluster(initialize_head=True, head_node_args=NODE)
    try:
        cluster.add_node(**NODE)
        yield Nodes(cluster)
    finally:
        cluster.shutdown()


def _install_noting(site: Path) -> None:
    """Write the plugin into a folder that every process has on its path: the nodes are started with it."""
    information = site / "noting-1.0.dist-info"
    information.mkdir(parents=True)
    (site / "noting.py").write_text(NOTING)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: noting\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[tutelage]\nnoting = noting\n")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH"))))
    os.environ |= {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", "NOTED": str(site.parent / NOTED)}


def _start(folder: Path, address: str | None, worker: str = "transformers") -> subprocess.Popen[str]:
    """Start a run whose generator works in this process, or with actors on the cluster at an address."""
    generator = "models.student.generator"
    values = {**SETTINGS, generator: "{plugin: transformers, settings: {threads: 1}}"}
    if address is not None:
        values = {**SETTINGS, f"{generator}.settings.address": address}
        values[f"{generator}.settings.worker.plugin"] = worker
    chosen = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
    command = [TUTELAGE, "run", RECIPE, "--run", str(folder), *chosen]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _finish(process: subprocess.Popen[str]) -> None:
    output = process.communicate()[0]
    if process.returncode:
        sys.exit(f"{' '.join(map(str, process.args))} exited with {process.returncode}:\n{output}")  # type: ignore[arg-type]


def _seconds(folder: Path) -> dict[str, float]:
    """The seconds of sampling, which include the start of the actors, and of judging, which finds them started."""
    steps = {row["output"]: row["seconds"] for row in _rows(folder / "steps.jsonl")}
    return {"candidates": steps[CANDIDATES], "judgements": steps[JUDGEMENTS]}


def _compared(expected: Path, folder: Path) -> dict[str, int]:
    """Compare all artifacts and the summary, byte for byte."""
    files = [expected / "summary.json", *(path for path in (expected / "seed-0").rglob("*") if path.is_file())]
    same = [path for path in files if path.read_bytes() == (folder / path.relative_to(expected)).read_bytes()]
    for path in set(files).difference(same):
        print(f"DIFFERENT: {path.relative_to(expected)}", flush=True)
    return {"files": len(files), "same_files": len(same)}


def _stored(folder: Path) -> set[str]:
    """The prompts whose candidates the run has stored before the step is finished."""
    path = folder / CANDIDATES
    return {row["prompt_id"] for row in _rows(path.with_name(f".{path.name}.journal"))}


def _noted(path: Path) -> list[tuple[str, int]]:
    return [(id, pid) for id, pid in _rows(path)]


def _rows(path: Path) -> list[Any]:
    """The complete lines of a file that may be written meanwhile."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def _until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    while not condition():
        if process.poll() is not None:
            sys.exit(f"the run ended before a node could be killed:\n{process.communicate()[0]}")
        time.sleep(0.05)
