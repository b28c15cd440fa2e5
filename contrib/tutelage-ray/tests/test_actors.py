"""Sampling, judging and scoring on the actors of a cluster, and what happens if an item, an actor or a node fails."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

ray = pytest.importorskip("ray", reason="ray is not installed; run: pip install ./contrib/tutelage-ray")

from tutelage import (  # noqa: E402
    Candidate,
    Comparison,
    Context,
    JudgeItem,
    Judgement,
    Model,
    Prompt,
    Registry,
    Sampling,
    Verdict,
)
from tutelage.errors import InputError, StageError  # noqa: E402
from tutelage.plugins import stages  # noqa: E402
from tutelage.runs.durable import DurableStage, Unit, finish_file  # noqa: E402
from tutelage_ray import answering, pool  # noqa: E402

pytest_plugins = ["nodes"]
SAMPLING = Sampling(0.8, 0.95, 24, seed=3)


def prompts(registry: Registry, count: int) -> list[Prompt]:
    found = registry.get("prompt_sets", "tiny/train").load(count, 0)
    return [one if isinstance(one, Prompt) else Prompt(one) for one in found]


def asked(model: Model) -> list[str]:
    path = Path(model.name)
    return [line.rpartition(" ")[0] for line in path.read_text().splitlines()] if path.exists() else []


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


def test_a_node_that_is_killed_midway_loses_no_item(
    registry: Registry, faulty: Model, cluster: Any, until: Callable[..., None]
) -> None:
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


def test_release_ends_the_actors_of_the_model_and_no_others(
    registry: Registry, faulty: Model, until: Callable[..., None], free_cpus: Callable[[], float]
) -> None:
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
