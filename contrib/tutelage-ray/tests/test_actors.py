"""Sampling, judging and scoring on the actors of a local cluster of two nodes, with one CPU each."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from attrs import evolve

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"

ray = pytest.importorskip("ray", reason="ray is not installed; run: pip install ./contrib/tutelage-ray")

from ray.cluster_utils import Cluster  # noqa: E402

from tutelage import (  # noqa: E402
    Candidate,
    Comparison,
    Context,
    Dpo,
    JudgeItem,
    Judgement,
    Model,
    Prompt,
    Registry,
    Sampling,
    Verdict,
    run,
)
from tutelage.errors import InputError, StageError  # noqa: E402
from tutelage.files.settings import describe_settings, structure  # noqa: E402
from tutelage.plugin_info import RunNeeds  # noqa: E402
from tutelage.plugins import helpers, stages  # noqa: E402
from tutelage.recipe.loading import from_values, load_recipe  # noqa: E402
from tutelage.runs.durable import DurableStage, Unit, finish_file  # noqa: E402
from tutelage.testing import check_plugin  # noqa: E402
from tutelage_ray import answering, pool  # noqa: E402
from tutelage_ray.settings import RaySettings  # noqa: E402

FOLDER = Path(__file__).parents[1]
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
SAMPLING = Sampling(0.8, 0.95, 24, seed=3)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Two nodes. The plugins ``faulty`` and ``loud`` are installed on them and here."""
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


@pytest.fixture(scope="module")
def registry(cluster: Any) -> Registry:
    return Registry.discover(["loud"], environment={})


@pytest.fixture(scope="module")
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


def prompts(registry: Registry, count: int) -> list[Prompt]:
    found = registry.get("prompt_sets", "tiny/train").load(count, 0)
    return [one if isinstance(one, Prompt) else Prompt(one) for one in found]


def asked(model: Model) -> list[str]:
    path = Path(model.name)
    return [line.rpartition(" ")[0] for line in path.read_text().splitlines()] if path.exists() else []


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.02)


def free_cpus() -> float:
    return float(ray.available_resources().get("CPU", 0.0))


def test_files_of_all_stages_are_those_of_one_process(
    registry: Registry, weights: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    """Byte for byte, also with sampled answers: 48 prompts in chunks of 8, each with its own seed."""
    given = prompts(registry, 48)
    rubric, pairwise = registry.get("rubrics", "tiny/additive"), registry.get("rubrics", "pairwise")
    items = [JudgeItem(one.id, one.text, f"Answer {number}.") for number, one in enumerate(given)]
    compared = [Comparison(one.id, one.text, "First.", "Second.") for one in given]
    candidates = [Unit(one, tuple(f"{one.id}/{index}" for index in range(2))) for one in given]
    judged = [Unit(one, tuple(f"{one.id}#{index}" for index in range(2))) for one in items]
    once = [Unit(one, (f"{one.id}#0",)) for one in items]
    verdicts = [Unit(one, (one.id,)) for one in compared]
    models = {"one": Model("transformers", weights, {"threads": 1}), "spread": Model("ray", weights, settings)}
    for name, model in models.items():
        durable, folder, shared = (
            DurableStage(registry, model, Context(), chunk=8),
            tmp_path / name,
            (SAMPLING, ("a", 1)),
        )
        folder.mkdir()
        file = folder / "candidates.jsonl"
        finish_file(file, Candidate, candidates, durable, stages.generate_candidates, *shared, n=2)
        file = folder / "judgements.jsonl"
        finish_file(file, Judgement, judged, durable, stages.judge, *shared, rubric=rubric, samples=2)
        file = folder / "expected.jsonl"
        finish_file(file, Judgement, once, durable, stages.judge, *shared, rubric=rubric, samples=1, score="expected")
        file = folder / "verdicts.jsonl"
        finish_file(file, Verdict, verdicts, durable, stages.evaluate, *shared, rubric=pairwise)
    one, spread = (sorted((tmp_path / name).glob("*.jsonl")) for name in ("one", "spread"))
    assert len(one) == 4
    for left, right in zip(one, spread, strict=True):
        assert left.read_bytes() == right.read_bytes(), left.name
    assert len(set((tmp_path / "one/candidates.jsonl").read_text().splitlines())) == 96


def test_a_reward_model_scores_on_the_actors(
    registry: Registry, weights: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    folder = tmp_path / "reward"
    shutil.copytree(weights, folder, ignore=shutil.ignore_patterns("*.safetensors", "generation_config.json"))
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(weights, num_labels=1, pad_token_id=0)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    items = [JudgeItem(one.id, one.text, f"Answer {number}.") for number, one in enumerate(prompts(registry, 12))]
    context = Context(seeds={item.id: number // 6 for number, item in enumerate(items)})
    scores = []
    for model in (Model("transformers", str(folder), {"threads": 1}), Model("ray", str(folder), settings)):
        found = stages.judge(registry, model, items, registry.get("rubrics", "reward"), 1, SAMPLING, context)
        scores.append({one.item_id: one.score for one in found})
    assert len(set(scores[0].values())) > 1
    assert scores[1] == pytest.approx(scores[0], abs=1e-5)


def test_a_plugin_that_wraps_hooks_runs_once_in_the_process_of_the_run(faulty: Model) -> None:
    """It is installed everywhere, and would otherwise change the answers on the actors, too."""
    registry = Registry.discover(environment={})
    assert registry.wrappers("generate_candidates") == ["loud"]
    [found] = stages.generate_candidates(registry, faulty, [Prompt("text")], 1, SAMPLING)
    assert found.text == "3 text!"


def test_each_chunk_is_given_with_its_seed_and_split_by_batch_size(registry: Registry, faulty: Model) -> None:
    given = [Prompt(f"text {number}") for number in range(10)]
    context = Context(seeds={one.id: 100 + number // 6 for number, one in enumerate(given)})
    found = stages.generate_candidates(registry, faulty, given, 1, SAMPLING, context)
    texts = {one.prompt_id: one.text for one in found}
    assert [texts[one.id].split()[0] for one in given] == ["100"] * 6 + ["101"] * 4
    assert sorted(asked(faulty)) == sorted(one.text for one in given)


def test_a_node_that_is_killed_midway_loses_no_item(registry: Registry, faulty: Model, cluster: Any) -> None:
    other = next(node for node in cluster.worker_nodes)
    given = [Prompt(f"wait {number}") for number in range(24)]
    alone = evolve(faulty, settings={**faulty.settings, "batch_size": 2})
    stream = stages.generate_candidates(registry, alone, given, 1, SAMPLING)
    found = [next(stream)]
    until(lambda: len({line.split()[-1] for line in Path(alone.name).read_text().splitlines()}) == 2)
    before = Counter(asked(alone))
    cluster.remove_node(other, allow_graceful=False)
    found += stream
    cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20, include_dashboard=False)
    assert sorted(one.prompt_id for one in found) == sorted(one.id for one in given)
    repeated = [text for text, times in Counter(asked(alone)).items() if times > 1]
    assert len(repeated) <= 2, "only the items that the lost actor had"
    assert before.total() < 24, "items were left when the node was killed"


@pytest.mark.parametrize(("text", "error"), [("raise", StageError), ("refuse", InputError)])
def test_an_error_names_node_plugin_and_item_and_has_its_traceback_only_if_it_is_no_bad_input(
    registry: Registry, faulty: Model, text: str, error: type[Exception]
) -> None:
    bad = Prompt(f"{text} 6")
    given = [*(Prompt(f"text {number}") for number in range(6)), bad, Prompt("text 7")]
    with pytest.raises(error) as caught:
        list(stages.generate_candidates(registry, faulty, given, 1, SAMPLING))
    message = str(caught.value)
    assert "plugin ray, node " in message
    assert f"item {bad.id!r}: " in message
    assert "\n" not in message and "Traceback" not in message
    if text == "raise":
        assert "hook 'generate_candidates' of plugin 'faulty' (faulty 1.0)" in message
        assert message.endswith("failed: ValueError: a bug (faulty_worker.py, line 19)")
        assert 'raise ValueError("a bug")' in str(caught.value.__cause__)
    else:
        assert message.endswith("the prompt cannot be used")
        assert caught.value.__cause__ is None


def test_an_error_of_every_item_names_none_of_them(registry: Registry, faulty: Model) -> None:
    given = [Prompt(f"refuse {number}") for number in range(4)]
    with pytest.raises(InputError, match=f"4 items from '{given[0].id}' to '{given[3].id}': the prompt cannot be used"):
        list(stages.generate_candidates(registry, faulty, given, 1, SAMPLING))


def test_an_item_that_ends_its_actor_three_times_stops_the_step_and_is_named(registry: Registry, faulty: Model) -> None:
    alone = evolve(faulty, settings={**faulty.settings, "batch_size": 1})
    bad = Prompt("die")
    with pytest.raises(StageError, match=f"plugin ray, node .*, item '{bad.id}': 3 actors were lost with it"):
        list(stages.generate_candidates(registry, alone, [bad], 1, SAMPLING))
    assert asked(alone) == ["die"] * 3
    assert len(list(stages.generate_candidates(registry, alone, [Prompt("text")], 1, SAMPLING))) == 1


def test_release_ends_the_actors_of_the_model_and_no_others(registry: Registry, faulty: Model) -> None:
    list(stages.generate_candidates(registry, faulty, [Prompt(f"wait {number}") for number in range(8)], 1, SAMPLING))
    until(lambda: free_cpus() == 0)
    stages.release(registry, evolve(faulty, name="another model"))
    time.sleep(1)
    assert free_cpus() == 0
    stages.release(registry, faulty)
    until(lambda: free_cpus() == 2)


def test_another_model_gets_the_place_of_the_first(registry: Registry, faulty: Model) -> None:
    other = evolve(faulty, name=f"{faulty.name}-other")
    for model in (faulty, other, faulty):
        found = list(stages.generate_candidates(registry, model, [Prompt("text")], 1, SAMPLING))
        assert [one.text for one in found] == ["3 text"]
    assert (len(asked(faulty)), len(asked(other))) == (2, 1)


def test_a_cluster_without_room_for_an_actor_is_an_error_with_its_needs(registry: Registry, faulty: Model) -> None:
    answering.release_all()
    large = evolve(faulty, settings={**faulty.settings, "cpus": 64, "start_seconds": 1.0})
    with pytest.raises(
        StageError, match=r"no actor could work for 1 s .*needs 64 CPUs and 0 GPUs, and the cluster has"
    ):
        list(stages.generate_candidates(registry, large, [Prompt("text")], 1, SAMPLING))


def test_a_node_with_other_versions_is_an_error(
    registry: Registry, faulty: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering.release_all()
    monkeypatch.setattr(pool, "versions_of", lambda *_: "tutelage 0.0")
    with pytest.raises(StageError, match=r"node .*: it has tutelage .*faulty 1.0.*this machine has tutelage 0.0; inst"):
        list(stages.generate_candidates(registry, faulty, [Prompt("text")], 1, SAMPLING))


def test_a_wish_to_stop_is_noticed_while_actors_work(registry: Registry, faulty: Model) -> None:
    given = [Prompt(f"wait {number}") for number in range(400)]
    context = Context(cancelled=lambda: len(asked(faulty)) > 1)
    assert len(list(stages.generate_candidates(registry, faulty, given, 1, SAMPLING, context))) < 40
    answering.release_all()


def test_a_second_cluster_is_refused(registry: Registry, faulty: Model) -> None:
    other = evolve(faulty, settings={**faulty.settings, "address": "10.0.0.1:6379"})
    with pytest.raises(InputError, match="a run can use one cluster only"):
        list(stages.generate_candidates(registry, other, [Prompt("text")], 1, SAMPLING))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"worker": {"plugin": "transfomers"}}, "settings.worker.plugin: plugin 'transfomers' is not installed; did"),
        ({"worker": {"settings": {"thread": 1}}}, "settings.worker.settings: thread: "),
        ({"worker": {"plugin": "tiny"}}, "does not implement generate_candidates; name another plugin"),
        ({"worker": {"plugin": "openai"}}, "calls a service, with the budget of this machine; bind"),
        ({"address": "127.0.0.1:9"}, "settings.address: nothing answers at 127.0.0.1:9"),
    ],
)
def test_problems_are_found_before_a_run(
    registry: Registry, weights: str, settings: dict[str, Any], problem: str
) -> None:
    needs = RunNeeds(hooks=frozenset({"generate_candidates", "judge"}))
    found = helpers.check_run(registry, Model("ray", weights, settings), needs)
    assert found
    assert [finding.ok for finding in found] == [False]
    assert problem in found[0].detail


def test_the_plugin_cannot_run_itself(registry: Registry) -> None:
    with pytest.raises(InputError, match=r"worker.plugin: the plugin ray cannot run itself"):
        helpers.check_run(registry, Model("ray", "", {"worker": {"plugin": "ray"}}), RunNeeds(hooks=frozenset()))


def test_objectives_are_checked_by_the_plugin_that_trains(registry: Registry) -> None:
    [problem] = helpers.check_objective(registry, Model("ray"), Dpo(loss_type="no-such-loss"))
    assert problem.startswith("loss_type: ")


def test_the_plugin_keeps_the_contract(weights: str, settings: dict[str, Any]) -> None:
    check_plugin("ray", model=Model("ray", weights, settings)).raise_for_problems()


RECIPE: dict[str, Any] = {
    "name": "tiny",
    "data": {
        "ift": {"source": "tiny/ift", "count": 24},
        "eft": {"source": "tiny/eft", "count": 96},
        "prompts": {"source": "tiny/train", "count": 24},
        "decontaminate": None,
    },
    "pipelines": {"self-reward": None},
    "generation": {"n": 4, "temperature": 0.8, "top_p": 0.95, "max_new_tokens": 24},
    "judging": {"rubric": "tiny/additive", "samples": 2, "temperature": 1.0, "max_new_tokens": 3},
    "sft": {"epochs": 3, "learning_rate": 5e-4, "batch_size": 16},
    "dpo": {"epochs": 1, "learning_rate": 1e-4, "batch_size": 16, "beta": 2.0},
    "chunk": 8,
}


def test_a_run_on_a_cluster_ends_with_the_artifacts_of_one_process(
    registry: Registry, settings: dict[str, Any], tmp_path: Path
) -> None:
    """The student is trained here. The actors then sample and judge with each new checkpoint."""
    trained = {"plugin": "transformers", "model": "tiny/student", "settings": {"threads": 1}}
    students = {
        "one": trained,
        "spread": {"plugin": "ray", "model": "tiny/student", "settings": settings},
        "generator": {**trained, "generator": {"plugin": "ray", "settings": settings}},
    }
    for name, student in students.items():
        recipe = from_values({**RECIPE, "models": {"student": student}}, name)
        run(recipe, tmp_path / name, registry)
        until(lambda: free_cpus() == 2)
    one = {path.relative_to(tmp_path / "one"): path for path in (tmp_path / "one/seed-0").rglob("*") if path.is_file()}
    compared = [path for path in one if path.suffix in (".jsonl", ".safetensors")]
    assert {"candidates.jsonl", "judgements.jsonl", "preferences.jsonl"} <= {path.name for path in compared}
    for name in ("spread", "generator"):
        for path in compared:
            assert one[path].read_bytes() == (tmp_path / name / path).read_bytes(), (name, path)


@pytest.mark.parametrize("name", ["embedded", "self-reward"])
def test_the_recipes_bind_the_plugin_as_generator(name: str) -> None:
    generator = load_recipe(FOLDER / f"{name}.yaml").models.student.generator
    assert generator is not None
    assert generator.plugin == "ray"
    assert structure(RaySettings, dict(generator.settings), name).worker.plugin == "transformers"


def test_the_settings_of_the_page_are_those_of_the_plugin() -> None:
    rows = re.findall(r"^\| (`[^|]*`) \| ([^|]*) \|", (FOLDER / "README.md").read_text(), re.MULTILINE)
    named = {name: default for names, default in rows for name in re.findall("`([a-z_.]+)`", names)}
    assert set(named) == {one.name for one in describe_settings(RaySettings)} - {"worker"}
    assert (named["actors"], named["start_seconds"]) == (str(RaySettings().actors), f"{RaySettings().start_seconds:g}")


def test_the_models_of_the_page_are_bindings() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (FOLDER / "README.md").read_text(), re.DOTALL)
    values = [yaml.safe_load(block) for block in blocks]
    models = {role: bound for value in values for role, bound in value.get("models", value).items()}
    from_values({**RECIPE, "models": models}, "README.md")
    for bound in (models["student"]["generator"], models["judge"]):
        structure(RaySettings, bound["settings"], "README.md")


@pytest.mark.parametrize(("number", "actors"), [(signal.SIGTERM, 1), (signal.SIGINT, 2)])
def test_a_run_stops_by_a_signal_and_ends_its_own_cluster(tmp_path: Path, number: signal.Signals, actors: int) -> None:
    """Without ``address``, the run has a cluster of its own. Ray would end the process at SIGTERM."""
    student = {"plugin": "ray", "model": "tiny/student", "settings": {"actors": actors, "batch_size": 1}}
    recipe = {**RECIPE, "models": {"student": student}, "generation": {**RECIPE["generation"], "n": 64}}
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    command = [str(Path(sys.executable).with_name("tutelage")), "run", str(tmp_path / "recipe.yaml"), "--run"]
    with subprocess.Popen([*command, str(tmp_path / "run")], stderr=subprocess.PIPE, text=True) as process:
        journal = tmp_path / "run/seed-0/M1/samples/.candidates.jsonl.journal"
        until(lambda: journal.exists() or process.poll() is not None, 120)
        assert processes_of(f"_{process.pid}/")
        process.send_signal(number)
        errors = process.communicate()[1]
    assert process.returncode == 130, errors
    assert "stopped as requested; finished work is kept, and the same command continues" in errors
    assert "SIGTERM received" not in errors
    until(lambda: not processes_of(f"_{process.pid}/"))


def processes_of(session: str) -> list[str]:
    """The command lines of the processes whose session of Ray ends in this way."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended meanwhile
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [line for line in found if "/session_" in line and session in line]
