"""Every installed plugin that needs no service passes the contract checks, and so does the third-party example."""

from __future__ import annotations

import importlib.util
import os
import runpy
import subprocess
import sys
import zipfile
from contextlib import chdir
from pathlib import Path

import pytest

from tutelage.plugins.registry import Registry
from tutelage.records import Model, Prompt
from tutelage.testing import PROMPTS, check_plugin

ROOT = Path(__file__).parents[2]
REGISTRY = Registry.discover(environment={})
LOCAL = [name for name in REGISTRY.names() if not REGISTRY.info(name).item_by_item]


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random Phi of the tests of the plugin ``transformers``, as a minimal base model."""
    write_base = runpy.run_path(str(ROOT / "tests/plugins/transformers/conftest.py"))["write_base"]
    return Path(write_base(tmp_path_factory.mktemp("base")))


def own_prompts(name: str) -> list[str]:
    """Two prompts of each prompt set of a plugin."""
    sets = [one for one in REGISTRY.info(name).prompt_sets.values() if one.preparation is None]
    offered = [one for offered in sets for one in offered.load(2, 0)]
    return [one.text if isinstance(one, Prompt) else one for one in offered]


@pytest.mark.parametrize("name", LOCAL)
def test_an_installed_plugin_keeps_the_contract(name: str, base: Path) -> None:
    model = Model(name, str(base)) if "train_step" in REGISTRY.hooks(name) else Model(name)
    prompts = dict.fromkeys([*own_prompts(name), *PROMPTS])
    check_plugin(name, model=model, prompts=list(prompts)).raise_for_problems()


def test_every_plugin_that_ships_can_be_used() -> None:
    shipped = {status.name for status in REGISTRY.statuses() if status.distribution == "tutelage"}
    assert shipped == {"gemini", "openai", "tiny", "transformers"}
    assert {"tiny", "transformers"} <= set(LOCAL)
    broken = [str(status) for status in REGISTRY.statuses() if status.distribution == "tutelage" and status.error]
    assert broken == []


def is_installed(library: str) -> bool:
    try:
        return importlib.util.find_spec(library) is not None
    except ModuleNotFoundError:  # of the package that contains it
        return False


@pytest.mark.parametrize(
    ("project", "library", "chosen"),
    [
        ("tutelage-echo", "attrs", ()),
        ("tutelage-google-genai", "google.genai", ("-k", "demonstrates_and_judges or valid_for")),
        pytest.param("tutelage-google-genai", "google.genai", (), marks=pytest.mark.slow),
        ("tutelage-ifeval", "if_verifiable", ()),
        ("tutelage-lm-eval", "lm_eval", ("-k", "contract or before_the_run")),
        pytest.param("tutelage-lm-eval", "lm_eval", (), marks=pytest.mark.slow),
        ("tutelage-loops", "attrs", ()),
        pytest.param("tutelage-ray", "ray", (), marks=pytest.mark.slow),
        ("tutelage-vllm", "torch", ("-k", "greedy_answers or before_work")),
        pytest.param("tutelage-vllm", "torch", (), marks=pytest.mark.slow),
    ],
    ids=[
        "echo",
        "google-genai, in part",
        "google-genai",
        "ifeval",
        "lm-eval, in part",
        "lm-eval",
        "loops",
        "ray",
        "vllm, in part",
        "vllm",
    ],
)
def test_a_plugin_from_outside_passes_its_own_tests_as_it_is_installed(
    tmp_path: Path, project: str, library: str, chosen: tuple[str, ...]
) -> None:
    import hatchling.build

    if not is_installed(library):
        pytest.skip(f"{library} is not installed, which {project} requires; run: pip install ./contrib/{project}[test]")
    folder, site = ROOT / "contrib" / project, tmp_path / "site"
    with chdir(folder):
        wheel = hatchling.build.build_wheel(str(site))
    with zipfile.ZipFile(site / wheel) as archive:
        archive.extractall(site)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder / "tests"), *chosen],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH"))))},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
