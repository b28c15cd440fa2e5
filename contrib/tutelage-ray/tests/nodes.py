"""Fixtures: a local cluster of two nodes with one CPU each, and two plugins that are installed on them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tutelage import Model, Registry

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"

FAULTY = '''
"""A worker that fails, ends its process or waits for the prompts that say so, and notes every prompt that it gets."""

import os
import time
from pathlib import Path

from tutelage import Candidate, InputError, hookimpl


@hookimpl
def generate_candidates(model, prompts, n, sampling):
    """Answer each prompt with the seed."""
    for prompt in prompts:
        with Path(model.name).open("a") as log:
            log.write(f"{prompt.text} {os.getpid()}\\n")
        match prompt.text.split()[0]:
            case "raise":
                raise ValueError("a bug")
            case "refuse":
                raise InputError("the prompt cannot be used")
            case "die":
                os._exit(1)
            case "wait":
                time.sleep(0.5)
        yield from (Candidate(prompt.id, index, f"{sampling.seed} {prompt.text}") for index in range(n))
'''
LOUD = '''
"""Adds an exclamation mark to each answer of other plugins."""

from attrs import evolve

from tutelage import hookimpl


@hookimpl(wrapper=True)
def generate_candidates():
    results = yield
    return (evolve(one, text=one.text + "!") for one in results)
'''


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Two nodes. The plugins ``faulty`` and ``loud`` are installed on them and here."""
    import ray
    from ray.cluster_utils import Cluster

    from tutelage_ray import answering

    site = tmp_path_factory.mktemp("site")
    (site / "faulty_worker.py").write_text(FAULTY)
    (site / "faulty-1.0.dist-info").mkdir()
    (site / "faulty-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1.0\n")
    (site / "faulty-1.0.dist-info/entry_points.txt").write_text("[tutelage]\nfaulty = faulty_worker\nloud = loud\n")
    (site / "loud.py").write_text(LOUD)
    sys.path.insert(0, str(site))
    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(site), before)))
    node = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}
    nodes = Cluster(initialize_head=True, head_node_args=node)
    nodes.add_node(**node)
    yield nodes
    answering.release_all()
    ray.shutdown()
    nodes.shutdown()
    sys.path.remove(str(site))
    os.environ["PYTHONPATH"] = before


@pytest.fixture(scope="session")
def registry(cluster: Any) -> Registry:
    return Registry.discover(["loud"], environment={})


@pytest.fixture(scope="session")
def weights(registry: Registry) -> str:
    return registry.get("models", "tiny/student").location


@pytest.fixture
def settings(cluster: Any) -> dict[str, Any]:
    """Settings of the plugin, for the tiny student."""
    return {"address": cluster.address, "worker": {"settings": {"threads": 1}}}


@pytest.fixture
def faulty(cluster: Any, tmp_path: Path) -> Model:
    """A model of the plugin ``faulty``, whose name is the path of its log."""
    settings = {"address": cluster.address, "worker": {"plugin": "faulty"}, "batch_size": 4, "start_seconds": 60.0}
    return Model("ray", str(tmp_path / "log"), settings)


@pytest.fixture(scope="session")
def free_cpus() -> Callable[[], float]:
    """Returns the number of CPUs of the cluster that no actor has."""
    import ray

    return lambda: float(ray.available_resources().get("CPU", 0.0))


@pytest.fixture(scope="session")
def until() -> Callable[..., None]:
    """Waits until a condition is met."""

    def wait(condition: Callable[[], bool], seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "the condition was not met in time"
            time.sleep(0.02)

    return wait
