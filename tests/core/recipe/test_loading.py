import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from attrs import evolve
from recipes import numbers_recipe

from tutelage.errors import InputError
from tutelage.objectives import Dpo, Lora, Sft
from tutelage.recipe.loading import (
    built_in,
    find_recipe,
    from_values,
    load_recipe,
    override,
    parse_override,
    rebind,
    to_values,
    to_yaml,
)
from tutelage.recipe.schema import Judging, Pairs, PipelineSettings

DATA = numbers_recipe()["data"]


def with_writing(**writing: Any) -> dict[str, Any]:
    return {**DATA, "prompts": {**DATA["prompts"], "self_instruct": writing}}


def write(tmp_path: Path, values: Any) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_top_level_settings_reach_every_pipeline_and_its_own_override_wins() -> None:
    recipe = from_values(
        numbers_recipe(
            dpo={"beta": 0.3, "epochs": 2},
            pipelines={"self-reward": {"dpo": {"beta": 0.5}}, "teacher-reward": None},
            controls={},
        )
    )
    assert recipe.for_pipeline("self-reward").dpo.beta == 0.5
    assert recipe.for_pipeline("self-reward").dpo.epochs == 2
    assert recipe.for_pipeline("teacher-reward").dpo.beta == 0.3


def test_a_resolved_recipe_is_equal_after_writing_and_reading_it() -> None:
    recipe = from_values(numbers_recipe(dpo={"beta": 0.3}))
    assert from_values(yaml.safe_load(to_yaml(recipe))) == recipe
    assert to_values(recipe, resolved=True)["pipelines"]["self-reward"]["dpo"]["beta"] == 0.3


def test_a_recipe_takes_a_sum_of_losses_and_still_writes_a_single_loss_as_text() -> None:
    losses = {"sigmoid": 1, "sft": 0.2}
    recipe = from_values(numbers_recipe(dpo={"loss_type": losses}))
    assert recipe.for_pipeline("self-reward").dpo.loss_type == losses
    assert from_values(yaml.safe_load(to_yaml(recipe))) == recipe
    assert "loss_type: sigmoid\n" in to_yaml(from_values(numbers_recipe()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generatoin": {}}, "generatoin: unknown key; did you mean 'generation'"),
        ({"iterations": "two"}, "iterations.*whole number"),
        ({"iterations": 0}, "iterations: 0; at least one preference round"),
        ({"generation": {"n": 1}}, "generation.n: 1; a pair needs at least 2"),
        ({"generation": {"temprature": 1}}, "temprature.*did you mean 'temperature'"),
        ({"seeds": []}, "seeds: empty"),
        ({"seeds": [1, 1]}, "seeds: a seed occurs twice; name each seed once"),
        ({"pipelines": {}}, "pipelines: empty"),
        ({"dpo": {"seed": 3}}, "dpo.seed: the seed is set by `seeds`; leave this key out"),
        ({"dpo": {"learning_rate": 0.0}}, "dpo: batch_size, epochs and learning_rate must be positive"),
        ({"judging": {"samples": 0}}, "judging.samples: 0; must be at least 1"),
        (
            {"pipelines": {"self-reward": {"judging": {"samples": 0}}}, "controls": {}},
            "pipelines.self-reward.judging.samples: 0; must be at least 1",
        ),
        (
            {"pipelines": {"self-reward": {"dpo": {"epochs": 0}}}, "controls": {}},
            "pipelines.self-reward.dpo: batch_size, epochs and learning_rate must be positive",
        ),
        (
            {"controls": {"sft-on-chosen": {"mirrors": "self-reward", "sft": {"seed": 3}}}},
            "controls.sft-on-chosen.sft.seed: the seed is set by `seeds`; leave this key out",
        ),
        ({"generation": {"temperature": -1.0}}, "generation.temperature: -1; must be a number of at least 0"),
        ({"generation": {"top_p": 0.0}}, "generation.top_p: 0; must be above 0 and at most 1"),
        ({"generation": {"top_k": 0}}, "generation.top_k: 0; must be at least 1, or left out for all tokens"),
        ({"judging": {"min_p": 1.5}}, "judging.min_p: 1.5; must be from 0 to 1"),
        ({"data": with_writing(top_k=-1)}, "self_instruct.top_k: -1; must be at least 1"),
        ({"judging": {"max_new_tokens": 0}}, "judging.max_new_tokens: 0; must be at least 1"),
        ({"dpo": {"loss_type": {"sft": "much"}}}, "dpo.loss_type.sft: expected a number, got text 'much'"),
        ({"dpo": {"loss_type": ["sigmoid", "sft"]}}, "dpo.loss_type: expected text or a mapping, got a list"),
        (
            {"data": {"prompts": {"source": "numbers/train", "count": 4}}},
            "data: neither ift nor eft is given; M1 needs at least one of them to train on",
        ),
        ({"schema": 9}, "schema: 9 is not known"),
        ({"pipelines": {"self-reward": {"sft": {}}}, "controls": {}}, "sft: unknown key"),
        ({"controls": {"random-pairs": {"mirrors": "self-reward", "judging": {}}}}, "judging: unknown key"),
        ({"reference": "M2"}, "reference"),
        (
            {"data": {**DATA, "decontaminate": {"share": 0.0}}},
            "data.decontaminate.share: 0; must be above 0 and at most 1",
        ),
        ({"data": with_writing(shots=0)}, "data.prompts.self_instruct: seeds, shots and max_requests"),
        ({"data": with_writing(similarity=1.5)}, "self_instruct.similarity: 1.5; must be above 0 and at most 1"),
        ({"data": with_writing(min_characters=9, max_characters=3)}, "min_characters must be less"),
        ({"data": with_writing(shotz=3)}, "shotz.*did you mean 'shots'"),
    ],
)
def test_the_error_for_a_wrong_recipe_names_the_key_and_the_remedy(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = write(tmp_path, numbers_recipe(**changes))
    with pytest.raises(InputError, match=message) as raised:
        load_recipe(path)
    assert str(path) in str(raised.value)


def test_every_problem_of_a_recipe_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError) as raised:
        load_recipe(write(tmp_path, numbers_recipe(iterations=0, generation={"n": 1})))
    assert len(str(raised.value).splitlines()) == 2


@pytest.mark.parametrize(("text", "message"), [("a: [", "not YAML"), ("- 1\n", "a recipe must be a YAML mapping")])
def test_the_error_for_a_file_that_is_not_a_recipe_names_the_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        load_recipe(path)


def test_an_override_takes_precedence_over_the_file_and_may_add_a_section(tmp_path: Path) -> None:
    path = write(tmp_path, numbers_recipe())
    recipe = load_recipe(path, {"pipelines.self-reward.dpo.beta": 0.7, "generation.n": 6})
    assert recipe.generation.n == 6
    assert recipe.for_pipeline("self-reward").dpo.beta == 0.7


def test_an_override_below_a_value_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'iterations' is not a section"):
        load_recipe(write(tmp_path, numbers_recipe()), {"iterations.first": 1})


def test_override_values_are_read_as_yaml() -> None:
    assert parse_override("dpo.learning_rate=1e-4") == ("dpo.learning_rate", 1e-4)
    assert parse_override("name=1e4x") == ("name", "1e4x")
    assert parse_override("seeds=[1, 2]") == ("seeds", [1, 2])
    with pytest.raises(InputError, match="expected KEY=VALUE"):
        parse_override("seeds")


def test_rebinding_a_role_keeps_settings_only_for_the_same_plugin() -> None:
    before = {"plugin": "transformers", "model": "a", "settings": {"threads": 1}}
    assert rebind(before, "transformers:b") == {"plugin": "transformers", "model": "b", "settings": {"threads": 1}}
    assert rebind(before, "phi2:b", {"phi2": "transformers", "transformers": "transformers"}.__getitem__) == {
        "plugin": "phi2",
        "model": "b",
        "settings": {"threads": 1},
    }
    assert rebind(before, "openai:gpt:4") == {"plugin": "openai", "model": "gpt:4", "settings": {}}


def test_an_unknown_recipe_name_gets_the_nearest_one() -> None:
    assert find_recipe("embedded") == built_in()["embedded"]
    with pytest.raises(InputError, match="did you mean 'embedded'"):
        find_recipe("embeded")


def test_a_recipe_may_extend_another_and_change_some_of_it(tmp_path: Path) -> None:
    write(tmp_path, numbers_recipe(dpo={"beta": 0.3, "epochs": 2}))
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"extends: {tmp_path / 'recipe.yaml'}\nseeds: [7, 8]\ndpo: {{beta: 0.4}}\n")
    recipe = load_recipe(mine)
    assert recipe.seeds == (7, 8)
    assert (recipe.dpo.beta, recipe.dpo.epochs) == (0.4, 2)
    assert recipe.for_pipeline("self-reward").dpo.beta == 0.4


@pytest.mark.parametrize(
    ("text", "present", "absent"),
    [
        ("controls: null", ["self-reward"], ["random-pairs", "sft-on-chosen"]),
        ("controls: {random-pairs: null}", ["self-reward", "sft-on-chosen"], ["random-pairs"]),
        ("controls: {random-pairs: null, sft-on-chosen: null}", ["self-reward"], ["random-pairs", "sft-on-chosen"]),
        (
            "pipelines: {teacher-reward: null}",
            ["self-reward", "teacher-demonstration", "sft-on-chosen"],
            ["teacher-reward"],
        ),
        (
            "pipelines: {own-preferences: null}\ndata: {preferences: {source: numbers/pairs, count: 30}}",
            ["own-preferences", "self-reward"],
            [],
        ),
    ],
)
def test_a_recipe_that_extends_another_removes_names_with_null_and_adds_new_ones(
    tmp_path: Path, text: str, present: list[str], absent: list[str]
) -> None:
    write(tmp_path, numbers_recipe())
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"extends: {tmp_path / 'recipe.yaml'}\n{text}\n")
    recipe = load_recipe(mine)
    names = {*recipe.pipelines, *recipe.controls}
    assert set(present) <= names
    assert not set(absent) & names


@pytest.mark.parametrize("section", ["generation", "judging", "pairs", "sft", "dpo"])
def test_a_section_that_is_null_has_its_defaults(tmp_path: Path, section: str) -> None:
    changed = {"generation": {"n": 6}, "judging": {"samples": 5}, "pairs": {"margin": 2.0}, "sft": {"epochs": 9.0}}
    write(tmp_path, numbers_recipe(**{section: {**changed, "dpo": {"beta": 0.9}}[section]}))
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"extends: {tmp_path / 'recipe.yaml'}\n{section}: null\n")
    default = getattr(from_values({k: v for k, v in numbers_recipe().items() if k != section}), section)
    assert getattr(load_recipe(tmp_path / "recipe.yaml"), section) != default
    assert getattr(load_recipe(mine), section) == default


def test_null_turns_off_what_may_be_absent_and_is_an_error_for_what_is_required(tmp_path: Path) -> None:
    write(tmp_path, numbers_recipe())
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        f"extends: {tmp_path / 'recipe.yaml'}\nevaluation: null\n"
        "data: {decontaminate: null, eft: null}\nmodels: {teacher: {settings: null}}\n"
    )
    recipe = load_recipe(mine)
    assert (recipe.evaluation, recipe.data.decontaminate, recipe.data.eft) == (None, None, None)
    assert recipe.models.teacher is not None and dict(recipe.models.teacher.settings) == {}
    mine.write_text(f"extends: {tmp_path / 'recipe.yaml'}\ndata: null\niterations: null\n")
    with pytest.raises(InputError) as caught:
        load_recipe(mine)
    lines = str(caught.value).splitlines()
    assert [line.partition(".yaml: ")[2] for line in lines if "data" in line] == [
        "data: expected a mapping (ift, eft, prompts, preferences, decontaminate), got nothing"
    ]
    assert [line.partition(".yaml: ")[2] for line in lines if "data" not in line] == [
        "iterations: expected a whole number, got nothing"
    ]


def test_a_pipeline_that_is_kept_by_an_empty_mapping_keeps_its_overrides(tmp_path: Path) -> None:
    write(tmp_path, numbers_recipe(pipelines={"self-reward": {"pairs": {"margin": 1.0}}}, controls={}))
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"extends: {tmp_path / 'recipe.yaml'}\npipelines: {{self-reward: {{}}}}\n")
    assert load_recipe(mine).for_pipeline("self-reward").pairs.margin == 1.0


@pytest.mark.parametrize(
    "overrides",
    [{"controls": None}, {"controls.random-pairs": None, "controls.sft-on-chosen": None}],
)
def test_an_override_removes_with_null_as_a_recipe_that_extends_does(tmp_path: Path, overrides: dict[str, Any]) -> None:
    assert load_recipe(write(tmp_path, numbers_recipe()), overrides).controls == {}
    assert override(from_values(numbers_recipe()), overrides).controls == {}


def test_recipes_that_extend_each_other_are_refused(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"extends: {mine}\n")
    with pytest.raises(InputError, match="extends: recipes extend each other in a cycle"):
        load_recipe(mine)


def test_the_recipe_of_unseen_seeds_differs_from_the_embedded_one_only_in_its_seeds() -> None:
    embedded, seeds = load_recipe(find_recipe("embedded")), load_recipe(find_recipe("embedded-seeds"))
    assert evolve(seeds, name=embedded.name, seeds=embedded.seeds) == embedded
    assert not set(seeds.seeds) & {0, 1, 2, 3, 4}


PREFERENCES = {"source": "numbers/pairs", "count": 30}
ALONE: dict[str, Any] = {
    "data": {"preferences": PREFERENCES},
    "pipelines": {"own-preferences": None},
    "controls": {},
    "iterations": 1,
}


def test_preference_data_alone_is_a_whole_recipe() -> None:
    recipe = from_values(numbers_recipe(**ALONE))
    assert (recipe.data.prompts, recipe.data.has_seed_examples) == (None, False)
    assert from_values(yaml.safe_load(to_yaml(recipe))) == recipe


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"ift": DATA["ift"]}}, "data.preferences: missing; the pipeline own-preferences trains on it"),
        ({"iterations": 2}, "iterations: 2; own-preferences trains once"),
        ({"start": "M1"}, "start: M1 is not trained, because data has neither ift nor eft; use previous"),
        ({"reference": "M1"}, "reference: M1 is not trained"),
        (
            {"pipelines": {"own-preferences": None, "self-reward": None}},
            "data: neither ift nor eft is given; M1 needs at least one of them to train on",
        ),
        (
            {"pipelines": {"own-preferences": None, "self-reward": None}},
            "data.prompts: missing; the pipeline self-reward needs fresh prompts",
        ),
        ({"data": {**DATA, "preferences": PREFERENCES}, "pipelines": {"self-reward": None}}, "preferences: not used"),
        (
            {"data": {"preferences": {**PREFERENCES, "join": ["own-preferences"]}}},
            "data.preferences.join: own-preferences trains on these pairs in any case; leave it out",
        ),
        (
            {
                "data": {**DATA, "preferences": {**PREFERENCES, "join": ["self-rewrd"]}},
                "pipelines": {"self-reward": {}},
            },
            "data.preferences.join: this recipe runs no pipeline 'self-rewrd'; did you mean 'self-reward'",
        ),
        (
            {"pipelines": {"own-preferences": {"pairs": {"margin": 1.0}}}},
            "pipelines.own-preferences.pairs: has no effect",
        ),
        ({"pipelines": {"own-preferences": {"judging": {"samples": 3}}}}, "own-preferences.judging: has no effect"),
        ({"controls": {"random-pairs": {"mirrors": "own-preferences"}}}, "samples no candidates to draw pairs from"),
    ],
)
def test_preference_data_that_cannot_be_used_as_the_recipe_says_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        from_values(numbers_recipe(**{**ALONE, **changes}))
    assert message in str(caught.value)


def test_settings_for_all_pipelines_are_no_settings_of_own_preferences() -> None:
    recipe = from_values(numbers_recipe(**ALONE, pairs={"margin": 1.0}, dpo={"beta": 0.3}))
    assert recipe.for_pipeline("own-preferences").dpo.beta == 0.3


def test_a_recipe_is_loaded_by_its_name_or_by_its_path_as_text_or_path(tmp_path: Path) -> None:
    path = write(tmp_path, numbers_recipe())
    assert load_recipe(str(path)) == load_recipe(path) == from_values(numbers_recipe())
    assert load_recipe("paper/all") == load_recipe(built_in()["paper/all"])
    for wrong in ("embeded", Path("embeded")):
        with pytest.raises(InputError, match=r"no recipe 'embeded'.*did you mean 'embedded'"):
            load_recipe(wrong)


def test_a_changed_recipe_object_has_the_change_in_every_pipeline_that_does_not_override_it() -> None:
    recipe = from_values(
        numbers_recipe(
            pipelines={"self-reward": {"dpo": {"beta": 0.5}}, "teacher-reward": None},
            controls={"random-pairs": {"mirrors": "self-reward"}},
        )
    )
    changed = evolve(recipe, dpo=Dpo(beta=0.3, epochs=7.0), pairs=Pairs(keep_cut=True), judging=Judging(samples=4))
    assert (changed.for_pipeline("self-reward").dpo.beta, changed.for_pipeline("teacher-reward").dpo.beta) == (0.5, 0.3)
    assert changed.for_control("random-pairs").dpo == Dpo(beta=0.3, epochs=7.0)
    assert {changed.for_pipeline(name).dpo.epochs for name in changed.pipelines} == {7.0}
    assert changed.for_control("random-pairs").pairs.keep_cut
    assert {changed.for_pipeline(name).judging.samples for name in changed.pipelines} == {4}


def test_overrides_of_a_pipeline_that_is_made_in_python_are_checked_as_those_of_a_file() -> None:
    recipe = from_values(numbers_recipe())
    whole = evolve(recipe, pipelines={"self-reward": PipelineSettings(dpo=Dpo(beta=0.2))})
    assert evolve(whole, dpo=Dpo(epochs=9.0)).for_pipeline("self-reward").dpo == Dpo(beta=0.2)
    typed = evolve(recipe, pipelines={"self-reward": PipelineSettings(dpo={"lora": {"r": 2}})})
    assert typed.for_pipeline("self-reward").dpo.lora == Lora(r=2)
    wrong = evolve(recipe, pipelines={"self-reward": PipelineSettings(dpo={"bta": 0.2})})
    with pytest.raises(InputError, match=r"pipelines.self-reward.dpo: bta: unknown key; did you mean 'beta'"):
        wrong.for_pipeline("self-reward")


def test_overrides_change_a_recipe_object_as_they_change_a_file(tmp_path: Path) -> None:
    changes = {"dpo.beta": 0.3, "pipelines.self-reward.pairs.margin": 2, "data.prompts.count": 20, "evaluation": None}
    path = write(tmp_path, numbers_recipe())
    recipe = override(load_recipe(path), changes)
    assert recipe == load_recipe(path, changes)
    assert (recipe.for_pipeline("teacher-reward").dpo.beta, recipe.evaluation) == (0.3, None)
    with pytest.raises(InputError, match=r"recipe numbers: dpo.bta: unknown key; did you mean 'beta'"):
        override(recipe, {"dpo.bta": 1})
    with pytest.raises(InputError, match="iterations: 0; at least one"):
        override(recipe, {"iterations": 0})


OLD_RUN = Path(__file__).parents[2] / "fixtures/golden-run/recipe.yaml"
"""A recipe.yaml with a copy of the top-level sections in each pipeline, as runs of the first versions have it."""


def test_the_recipe_of_an_old_run_means_the_same_and_its_copies_follow_a_changed_section() -> None:
    values = yaml.safe_load(OLD_RUN.read_text())
    recipe = load_recipe(OLD_RUN)
    defaults = {"judging": Judging(), "pairs": Pairs(), "dpo": Dpo(), "sft": Sft()}
    for group in ("pipelines", "controls"):
        for name, member in values[group].items():
            written = to_values(recipe, resolved=True)[group][name]
            assert written.keys() == member.keys()
            for key, section in member.items():
                if isinstance(section, dict):
                    added = {one: getattr(defaults[key], one) for one in written[key].keys() - section.keys()}
                    assert written[key] == section | added, "keys that were added later have their defaults"
                else:
                    assert written[key] == section
    changed = load_recipe(OLD_RUN, {"dpo.beta": 0.3})
    assert changed.for_pipeline("self-reward").dpo.beta == changed.for_control("random-pairs").dpo.beta == 0.3


def test_the_recipe_of_an_old_run_keeps_the_values_that_its_pipelines_override(tmp_path: Path) -> None:
    values = yaml.safe_load(OLD_RUN.read_text())
    values["pipelines"]["self-reward"]["pairs"]["margin"] = 1.5
    values["controls"]["random-pairs"]["dpo"]["beta"] = 0.7
    recipe = load_recipe(write(tmp_path, values), {"pairs.margin": 3.0, "dpo.beta": 0.3})
    assert recipe.for_pipeline("self-reward").pairs.margin == 1.5
    assert recipe.for_pipeline("self-reward").dpo.beta == 0.3
    assert recipe.for_control("random-pairs").dpo.beta == 0.7


def test_an_override_that_equals_the_top_level_value_is_kept_in_a_recipe_that_is_not_of_an_old_run() -> None:
    pinned = from_values(
        numbers_recipe(dpo={"beta": 0.3}, pipelines={"self-reward": {"dpo": {"beta": 0.3}}}, controls={})
    )
    assert override(pinned, {"dpo.beta": 0.9}).for_pipeline("self-reward").dpo.beta == 0.3


def test_the_file_that_a_recipe_extends_is_beside_it_in_any_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, elsewhere = tmp_path / "recipes", tmp_path / "elsewhere"
    for path, text in (
        (folder / "base.yaml", "extends: embedded\nname: base\nseeds: [7]\n"),
        (folder / "mine.yaml", "extends: base.yaml\nname: mine\n"),
        (elsewhere / "base.yaml", "extends: embedded\nseeds: [8]\n"),
        (elsewhere / "yours.yaml", "extends: ../recipes/mine.yaml\nname: yours\n"),
        (folder / "circle.yaml", "extends: ../recipes/circle.yaml\n"),
    ):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    for working in (folder, elsewhere, tmp_path):
        monkeypatch.chdir(working)
        for name in ("recipes/mine.yaml", "elsewhere/yours.yaml"):
            assert load_recipe(Path(os.path.relpath(tmp_path / name))).seeds == (7,)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="extend each other in a cycle"):
        load_recipe(Path("recipes/circle.yaml"))
