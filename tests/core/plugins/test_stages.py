"""A stage calls one plugin, yields results as they come, checks them, and attributes errors to their cause."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, field, frozen, validators

from tutelage.context import Context
from tutelage.errors import BudgetError, InputError, PluginError, StageError
from tutelage.hookspecs import hookimpl
from tutelage.objectives import Dpo
from tutelage.plugin_info import PluginInfo
from tutelage.plugins import stages
from tutelage.plugins.files import PluginFile, as_stored
from tutelage.plugins.registry import Registry
from tutelage.plugins.stage_checks import sampling_problems
from tutelage.records import (
    Candidate,
    Comparison,
    Demonstration,
    JudgeItem,
    Judgement,
    Model,
    Outcome,
    Prompt,
    Rubric,
    Sampling,
    Verdict,
)
from tutelage.testing.reference import Reference

PROMPTS = [Prompt("one"), Prompt("two"), Prompt("three")]
RUBRIC = Rubric("additive", lowest=0, highest=5)
ITEM = JudgeItem("a", "prompt", "answer")
COMPARISON = Comparison("c", "prompt", "first", "second")
MODEL = Model("plugin", id="M1")


@frozen
class Settings:
    shout: bool = False
    times: int = field(default=1, validator=validators.ge(1))


class Scripted:
    """A plugin whose stages yield the results of a function of the test."""

    def __init__(self, script: Callable[[Iterable[Any]], Iterable[Any] | None]) -> None:
        self.script = script
        self.seen: dict[str, Any] = {}

    @hookimpl
    def describe(self) -> PluginInfo:
        return PluginInfo("Scripted.", settings=Settings)

    @hookimpl
    def generate_candidates(self, model: Model, prompts: Iterable[Prompt], n: int, context: Context) -> Any:
        self.seen |= {"model": model, "settings": context.settings, "n": n}
        return self.script(prompts)

    @hookimpl
    def judge(self, items: Iterable[JudgeItem]) -> Any:
        return self.script(items)

    @hookimpl
    def demonstrate(self, prompts: Iterable[Prompt]) -> Any:
        return self.script(prompts)

    @hookimpl
    def evaluate(self, comparisons: Iterable[Comparison]) -> Any:
        return self.script(comparisons)


def registry_of(plugin: object, name: str = "plugin") -> Registry:
    registry = Registry.empty()
    registry.register(plugin, name)
    return registry


def generate(script: Any, prompts: Iterable[Prompt] = PROMPTS, n: int = 1, **context: Any) -> Iterator[Candidate]:
    registry = registry_of(Scripted(script))
    return stages.generate_candidates(registry, MODEL, prompts, n, Sampling(), Context(**context))


def generate_with(registry: Registry) -> Iterator[Candidate]:
    return stages.generate_candidates(registry, MODEL, PROMPTS, 1, Sampling(), Context())


def judge(*results: Any, samples: int = 1) -> list[Judgement]:
    def script(items: Iterable[JudgeItem]) -> Iterator[Any]:
        list(items)
        yield from results

    registry = registry_of(Scripted(script))
    return list(stages.judge(registry, MODEL, [ITEM], RUBRIC, samples, Sampling(), Context()))


def answers(prompts: Iterable[Prompt]) -> Iterator[Candidate]:
    for prompt in prompts:
        yield Candidate(prompt.id, 0, prompt.text.upper())


def test_a_stage_yields_the_plugins_results_in_the_plugins_order() -> None:
    def backwards(prompts: Iterable[Prompt]) -> Iterator[Candidate]:
        for prompt in reversed(list(prompts)):
            yield Candidate(prompt.id, 1, "b")
            yield Candidate(prompt.id, 0, "a")

    found = list(generate(backwards, n=2))
    assert [(candidate.prompt_id, candidate.index) for candidate in found] == [
        (prompt.id, index) for prompt in reversed(PROMPTS) for index in (1, 0)
    ]


def test_every_other_stage_streams_too() -> None:
    registry = registry_of(Scripted(lambda items: (_answer(item) for item in items)))
    context, sampling = Context(), Sampling()
    assert list(stages.judge(registry, MODEL, [ITEM], RUBRIC, 1, sampling, context)) == [Judgement("a", 0, 3)]
    assert list(stages.demonstrate(registry, MODEL, PROMPTS[:1], sampling, context)) == [
        Demonstration(PROMPTS[0].id, "ONE")
    ]
    assert list(stages.evaluate(registry, MODEL, [COMPARISON], RUBRIC, sampling, context)) == [Verdict("c", 1.0)]


def _answer(question: Prompt | JudgeItem | Comparison) -> Demonstration | Judgement | Verdict:
    match question:
        case Prompt():
            return Demonstration(question.id, question.text.upper())
        case JudgeItem():
            return Judgement(question.id, 0, 3)
        case Comparison():
            return Verdict(question.id, 1.0)


THOUGHTS = ["<think>a</think>\nb", "[THINK]a", "b"]


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        (False, [("b", Outcome.ANSWERED, None), ("", Outcome.CUT, None), ("b", Outcome.ANSWERED, 7)]),
        (True, [(text, Outcome.ANSWERED, 7) for text in THOUGHTS]),
    ],
)
def test_candidates_of_any_plugin_keep_their_thinking_blocks_only_if_asked(
    keep: bool, expected: list[tuple[str, Outcome, int | None]]
) -> None:
    def thinking(prompts: Iterable[Prompt]) -> Iterator[Candidate]:
        for prompt, text in zip(prompts, THOUGHTS, strict=True):
            yield Candidate(prompt.id, 0, text, tokens=7)

    registry, sampling = registry_of(Scripted(thinking)), Sampling(keep_thinking=keep)
    found = list(stages.generate_candidates(registry, MODEL, PROMPTS, 1, sampling, Context()))
    assert [(candidate.text, candidate.outcome, candidate.tokens) for candidate in found] == expected
    assert [bool(candidate.detail) for candidate in found] == [False, not keep, False]


@pytest.mark.parametrize(
    ("keep", "shown"), [(False, ["", "", "b"]), (True, ["<think>a", "<think>a</think>", THOUGHTS[0]])]
)
def test_the_texts_so_far_of_any_plugin_have_their_thinking_blocks_only_if_asked(keep: bool, shown: list[str]) -> None:
    texts: list[str] = []

    class Growing:
        @hookimpl
        def generate_candidates(self, prompts: Iterable[Prompt], context: Context) -> Iterator[Candidate]:
            assert context.partial is not None
            for prompt in prompts:
                for end in (8, 16, len(THOUGHTS[0])):
                    context.partial(THOUGHTS[0][:end])
                yield Candidate(prompt.id, 0, THOUGHTS[0])

    registry, sampling = registry_of(Growing()), Sampling(keep_thinking=keep)
    list(stages.generate_candidates(registry, MODEL, PROMPTS[:1], 1, sampling, Context(partial=texts.append)))
    assert texts == shown


@pytest.mark.parametrize(("keep", "texts"), [(False, ["b", "", "b"]), (True, THOUGHTS)])
def test_demonstrations_of_any_plugin_keep_their_thinking_blocks_only_if_asked(keep: bool, texts: list[str]) -> None:
    def thinking(prompts: Iterable[Prompt]) -> Iterator[Demonstration]:
        for prompt, text in zip(prompts, THOUGHTS, strict=True):
            yield Demonstration(prompt.id, text)

    registry, sampling = registry_of(Scripted(thinking)), Sampling(keep_thinking=keep)
    assert [found.text for found in stages.demonstrate(registry, MODEL, PROMPTS, sampling, Context())] == texts


def test_questions_are_read_one_by_one_and_results_are_yielded_as_they_come() -> None:
    drawn: list[str] = []

    def prompts() -> Iterator[Prompt]:
        number = 0
        while True:  # infinite: a stage that read all prompts first would never yield a result
            drawn.append(str(number))
            yield Prompt(str(number))
            number += 1

    stream = generate(answers, prompts())
    assert drawn == []
    assert next(stream).text == "0"
    assert next(stream).text == "1"
    assert drawn == ["0", "1"]


def test_the_plugins_generator_is_closed_if_the_caller_stops_early() -> None:
    closed: list[bool] = []

    def script(prompts: Iterable[Prompt]) -> Iterator[Candidate]:
        try:
            yield from answers(prompts)
        finally:
            closed.append(True)

    stream = generate(script)
    next(stream)
    stream.close()  # type: ignore[attr-defined]  # it is a generator
    assert closed == [True]


def test_an_iterator_of_the_plugin_is_closed_at_the_end() -> None:
    class Iterating:
        closed = 0

        def __init__(self, prompts: Iterable[Prompt]) -> None:
            self.results = answers(prompts)

        def __iter__(self) -> Iterator[Candidate]:
            return self

        def __next__(self) -> Candidate:
            return next(self.results)

        def close(self) -> None:
            Iterating.closed += 1

    assert len(list(generate(Iterating))) == len(PROMPTS)
    assert Iterating.closed == 1


def test_the_plugin_gets_its_own_settings_class() -> None:
    plugin = Scripted(answers)
    model = evolve(MODEL, settings={"shout": True})
    list(stages.generate_candidates(registry_of(plugin), model, PROMPTS, 1, Sampling(), Context()))
    assert plugin.seen == {"model": model, "settings": Settings(shout=True), "n": 1}


def test_wrong_settings_are_an_error_before_any_question_is_read() -> None:
    model = evolve(MODEL, settings={"shuot": True, "times": 0})
    with pytest.raises(InputError) as caught:
        stages.generate_candidates(registry_of(Scripted(answers)), model, PROMPTS, 1, Sampling(), Context())
    assert str(caught.value) == (
        "settings of M1 for plugin 'plugin' (registered manually): shuot: unknown key; did you mean 'shout'?"
    )


def test_settings_for_a_plugin_that_has_none_are_refused() -> None:
    class Plain:
        @hookimpl
        def demonstrate(self, prompts: Iterable[Prompt]) -> Iterator[Demonstration]:
            yield from ()

    with pytest.raises(InputError, match="this plugin has no settings, but got shout"):
        stages.demonstrate(
            registry_of(Plain()), evolve(MODEL, settings={"shout": True}), PROMPTS, Sampling(), Context()
        )


@pytest.mark.parametrize("n", [0, -1])
def test_fewer_than_one_answer_per_prompt_is_refused(n: int) -> None:
    with pytest.raises(InputError, match="n must be at least 1"):
        generate(answers, n=n)


def test_a_prompt_that_occurs_twice_is_the_callers_error() -> None:
    with pytest.raises(InputError, match="occurs twice in one call; ids must be unique"):
        list(generate(answers, [PROMPTS[0], PROMPTS[0]]))


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (lambda prompts: [Candidate("unknown", 0, "x")], "answers 'unknown', which was not asked"),
        (lambda prompts: [Candidate(p.id, 0, "x") for p in prompts for _ in "ab"], "number 0 twice"),
        (lambda prompts: [Candidate(p.id, 1, "x") for p in prompts], "the number 1, outside 0 to 0"),
        (lambda prompts: [Candidate(p.id, True, "x") for p in prompts], "the number True, outside 0 to 0"),
        (lambda prompts: [Candidate(p.id, 0, "x") for p in list(prompts)[:2]], "ended without answering"),
        (lambda prompts: [Candidate(next(prompts).id, 0, "x")], "ended before it read the question"),
        (lambda prompts: [], "ended before it read the question"),
        (lambda prompts: ["text"], "yielded 'text', not a Candidate"),
        (lambda prompts: [None], "yielded None, not a Candidate"),
        (lambda prompts: [Demonstration(p.id, "x") for p in prompts], "not a Candidate"),
        (lambda prompts: [Candidate(p.id, 0, None) for p in prompts], "the text is None, of type NoneType"),  # type: ignore[arg-type]
        (lambda prompts: [Candidate(p.id, 0, "x", "answered") for p in prompts], "must be a tutelage.Outcome"),  # type: ignore[arg-type]
        (lambda prompts: None, "returned None; it must yield its results"),
        (lambda prompts: 3, "returned 3; it must yield its results"),
    ],
)
def test_a_result_that_violates_the_hooks_specification_is_the_plugins_error(script: Any, message: str) -> None:
    with pytest.raises(PluginError) as caught:
        list(generate(script))
    assert "hook 'generate_candidates' of plugin 'plugin' (registered manually)" in str(caught.value)
    assert message in str(caught.value)


def test_valid_results_before_an_invalid_one_are_yielded() -> None:
    stream = generate(lambda prompts: [*answers(prompts), Candidate("unknown", 0, "x")])
    assert [next(stream).text for _ in PROMPTS] == ["ONE", "TWO", "THREE"]
    with pytest.raises(PluginError):
        next(stream)


def test_a_long_list_of_missing_answers_is_shortened() -> None:
    with pytest.raises(PluginError, match=r"number 0, .* number 2 and 6 more"):
        list(generate(lambda prompts: [] if list(prompts) else None, n=3))


def test_missing_results_are_no_error_if_the_user_cancelled() -> None:
    def script(prompts: Iterator[Prompt]) -> Iterator[Candidate]:
        yield Candidate(next(prompts).id, 0, "x")

    assert len(list(generate(script, cancelled=lambda: True))) == 1


@pytest.mark.parametrize(
    ("score", "outcome", "message"),
    [
        (None, Outcome.ANSWERED, "there is no score"),
        (3, Outcome.UNPARSED, "the outcome is UNPARSED, but there is a score (3)"),
        (0, Outcome.FAILED, "it must be None"),
        (0, Outcome.REFUSED, "it must be None"),
        (5.5, Outcome.ANSWERED, "the score is 5.5, outside 0 to 5"),
        (-1, Outcome.ANSWERED, "outside 0 to 5"),
        (float("nan"), Outcome.ANSWERED, "outside 0 to 5"),
        ("3", Outcome.ANSWERED, "of type str: it must be a plain number"),
        (True, Outcome.ANSWERED, "of type bool"),
    ],
)
def test_a_score_that_its_outcome_or_the_rubric_does_not_allow_is_refused(
    score: Any, outcome: Outcome, message: str
) -> None:
    with pytest.raises(PluginError) as caught:
        judge(Judgement("a", 0, score, outcome))
    assert message in str(caught.value)
    assert "for 'a'" in str(caught.value)


@pytest.mark.parametrize(
    ("score", "outcome"),
    [(0, Outcome.ANSWERED), (5.0, Outcome.ANSWERED), (3, Outcome.CUT), (None, Outcome.CUT), (None, Outcome.UNPARSED)],
)
def test_a_score_on_the_scale_or_a_missing_score_with_a_matching_outcome_passes(
    score: float | None, outcome: Outcome
) -> None:
    assert judge(Judgement("a", 0, score, outcome))[0].score == score


@pytest.mark.parametrize("probabilities", [[0.5], (0.5, 1.5), (-0.1,), (float("nan"),), ("1",), (True,)])
def test_probabilities_that_are_none_are_refused(probabilities: Any) -> None:
    with pytest.raises(PluginError, match=r"the probabilities (are|have) "):
        judge(Judgement("a", 0, 3.0, probabilities=probabilities))
    assert judge(Judgement("a", 0, 3.0, probabilities=(0.0, 1, 0.25)))[0].score == 3.0


def test_each_sample_of_a_judgement_is_expected_once() -> None:
    assert len(judge(Judgement("a", 1, 3), Judgement("a", 0, 3), samples=2)) == 2
    with pytest.raises(PluginError, match="ended without answering 'a' number 1"):
        judge(Judgement("a", 0, 3), samples=2)


@pytest.mark.parametrize("preference", [-0.1, 1.1, None])
def test_a_preference_is_a_probability(preference: float | None) -> None:
    registry = registry_of(Scripted(lambda comparisons: [Verdict(one.id, preference) for one in comparisons]))
    with pytest.raises(PluginError, match="preference"):
        list(stages.evaluate(registry, MODEL, [COMPARISON], RUBRIC, Sampling(), Context()))


def broken(prompts: Iterable[Prompt]) -> Iterator[Candidate]:
    for number, candidate in enumerate(answers(prompts)):
        if number == 1:
            raise ZeroDivisionError("no memory left")
        yield candidate


def test_an_exception_in_the_plugins_generator_names_plugin_and_hook_and_keeps_its_cause() -> None:
    stream = generate(broken)
    next(stream)
    with pytest.raises(StageError) as caught:
        next(stream)
    assert str(caught.value) == (
        "hook 'generate_candidates' of plugin 'plugin' (registered manually), model 'M1', failed: "
        f"ZeroDivisionError: no memory left (test_stages.py, line {broken.__code__.co_firstlineno + 3})"
    )
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit("missing library")])
def test_an_exception_in_the_call_itself_is_the_stages_error(error: BaseException) -> None:
    def script(prompts: Iterable[Prompt]) -> Iterator[Candidate]:
        raise error

    with pytest.raises(StageError) as caught:
        list(generate(script))
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [BudgetError("spent"), KeyboardInterrupt()])
def test_tutelages_own_errors_and_the_users_interrupt_pass_unchanged(error: BaseException) -> None:
    def script(prompts: Iterable[Prompt]) -> Iterator[Candidate]:
        yield next(answers(prompts))
        raise error

    with pytest.raises(type(error)) as caught:
        list(generate(script))
    assert caught.value is error


def test_an_error_of_the_questions_is_not_attributed_to_the_plugin() -> None:
    def prompts() -> Iterator[Prompt]:
        yield PROMPTS[0]
        raise OSError("disk is gone")

    with pytest.raises(OSError, match="disk is gone"):
        list(generate(answers, prompts()))


class Wrapper:
    """Wraps a hook and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    @hookimpl(wrapper=True)
    def generate_candidates(self) -> Any:
        self.calls += 1
        return (yield)


def test_a_plugin_that_wraps_a_stage_is_called_and_named_in_errors() -> None:
    registry, wrapper = registry_of(Scripted(broken)), Wrapper()
    registry.register(Scripted(answers), "other")
    registry.register(wrapper, "counter")
    with pytest.raises(StageError, match=r"of plugin 'plugin' .*, wrapped by 'counter', model 'M1', failed"):
        list(stages.generate_candidates(registry, MODEL, PROMPTS, 1, Sampling(), Context()))
    list(stages.generate_candidates(registry, evolve(MODEL, plugin="other"), PROMPTS, 1, Sampling(), Context()))
    assert wrapper.calls == 2


RAISING = """
from tutelage import hookimpl

def raising(results):
    for result in results:
        raise KeyError("mine")
        yield

@hookimpl(wrapper=True)
def generate_candidates():
    return raising((yield))
"""


STRICT_RELEASE = """
from tutelage import hookimpl


@hookimpl(wrapper=True)
def release():
    yield
    raise KeyError("mine")
"""


def failing(prompts: Iterable[Prompt]) -> Iterator[Candidate]:
    raise RuntimeError("no gpu")
    yield


def test_an_error_names_the_one_of_several_plugins_that_raised_it(tmp_path: Path) -> None:
    (tmp_path / "strict.py").write_text(RAISING)
    of_plugin = f"RuntimeError: no gpu (test_stages.py, line {failing.__code__.co_firstlineno + 1})"
    for plugin, origin in (
        (answers, "'strict': KeyError: 'mine' (strict.py, line 6)"),
        (failing, f"'plugin': {of_plugin}"),
    ):
        registry = registry_of(Scripted(plugin))
        registry.load_files([PluginFile.of(str(tmp_path / "strict.py"))])
        with pytest.raises(StageError) as found:
            list(generate_with(registry))
        label = "hook 'generate_candidates' of plugin 'plugin' (registered manually), wrapped by 'strict', model 'M1',"
        assert str(found.value) == f"{label} failed in {origin}"


def test_a_wrapper_that_forgets_its_result_is_told_to_return_it() -> None:
    class Forgetful:
        @hookimpl(wrapper=True)
        def generate_candidates(self) -> Any:
            yield

    registry = registry_of(Scripted(answers))
    registry.register(Forgetful(), "forgetful")
    with pytest.raises(PluginError) as found:
        list(generate_with(registry))
    assert str(found.value) == (
        "hook 'generate_candidates' of plugin 'plugin' (registered manually), wrapped by 'forgetful', model 'M1', "
        "returned None; it must yield its results (a wrapper must return the result of its yield)"
    )


class Renaming:
    """Adds a letter to each answer."""

    def __init__(self, letter: str) -> None:
        self.letter = letter

    @hookimpl(wrapper=True)
    def generate_candidates(self) -> Any:
        candidates = yield
        return (evolve(one, text=one.text + self.letter) for one in candidates)


@pytest.mark.parametrize("order", ["abc", "cab", "bca"])
def test_the_order_of_several_wrappers_is_that_of_their_names(order: str) -> None:
    registry = registry_of(Scripted(answers))
    for letter in order:
        registry.register(Renaming(letter), letter)
    assert {one.text[-3:] for one in generate_with(registry)} == {"cba"}
    registry.unregister("b")
    assert {one.text[-2:] for one in generate_with(registry)} == {"ca"}


WRONG_NUMBER_OF_YIELDS = """
from tutelage import hookimpl

@hookimpl(wrapper=True)
def generate_candidates():
    results = []
    for _ in range({yields}):
        results = yield
    return results
"""


@pytest.mark.parametrize(("yields", "fault"), [(2, "has second yield"), (0, "did not yield")])
def test_a_wrapper_that_does_not_yield_once_is_named_and_no_other_plugin_is_blamed(
    yields: int, fault: str, tmp_path: Path
) -> None:
    (tmp_path / "strict.py").write_text(WRONG_NUMBER_OF_YIELDS.format(yields=yields))
    registry = Registry.empty()
    registry.register(Reference(), "plugin")  # a plugin in tutelage's own package
    registry.load_files([PluginFile.of(str(tmp_path / "strict.py"))])
    with pytest.raises(StageError) as found:
        list(generate_with(registry))
    label = "hook 'generate_candidates' of plugin 'plugin' (registered manually), wrapped by 'strict', model 'M1',"
    assert str(found.value).startswith(f"{label} failed: RuntimeError: wrap_controller at 'generate_candidates' ")
    assert str(found.value).endswith(f"strict.py:4 {fault}; a wrapper must yield exactly once")


class Trainer:
    """Trains by writing a file, or violates the specification of the hook."""

    def __init__(self, write: bool = True, name: str | None = None, returns: object = ...) -> None:
        self.write, self.name, self.returns = write, name, returns
        self.released: list[Model] = []

    @hookimpl
    def train_step(self, model: Model, output: Path) -> object:
        if self.write:
            (output / "model.safetensors").write_bytes(b"weights")
        return evolve(model, name=self.name or str(output)) if self.returns is ... else self.returns

    @hookimpl
    def release(self, model: Model) -> None:
        self.released.append(model)


def train(plugin: object, folder: Path, examples: str = "examples.jsonl") -> Model:
    (folder / "examples.jsonl").write_text("{}\n")
    return stages.train_step(
        registry_of(plugin), MODEL, MODEL, Dpo(), folder / examples, folder / "checkpoint", Context()
    )


def test_training_returns_the_model_in_the_output_folder(tmp_path: Path) -> None:
    assert train(Trainer(), tmp_path).name == str(tmp_path / "checkpoint")


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        (Trainer(write=False), "wrote no checkpoint"),
        (Trainer(name="elsewhere"), "returned a model named 'elsewhere'"),
        (Trainer(returns="done"), "returned 'done', not the trained Model"),
        (Trainer(returns=None), "returned None, not the trained Model"),
    ],
)
def test_training_without_a_checkpoint_in_the_output_folder_is_the_plugins_error(
    plugin: Trainer, message: str, tmp_path: Path
) -> None:
    with pytest.raises(PluginError, match=message):
        train(plugin, tmp_path)


def test_training_on_a_missing_file_or_into_a_used_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file of training examples"):
        train(Trainer(), tmp_path, examples="none.jsonl")
    train(Trainer(), tmp_path)
    with pytest.raises(InputError, match="is not empty"):
        train(Trainer(), tmp_path)


def test_the_folders_of_a_checkpoint_are_made_and_an_empty_one_is_used(tmp_path: Path) -> None:
    (tmp_path / "examples.jsonl").write_text("{}\n")
    output = tmp_path / "seed-0" / "M1" / "checkpoint"
    for _ in range(2):
        trained = stages.train_step(
            registry_of(Trainer()), MODEL, None, Dpo(), tmp_path / "examples.jsonl", output, Context()
        )
        assert trained.name == str(output)
        for file in output.iterdir():
            file.unlink()


def test_a_training_gets_its_objective_and_the_plugin_files_of_the_run(tmp_path: Path) -> None:
    got: list[tuple[Any, ...]] = []

    class Recording:
        @hookimpl
        def train_step(self, model: Model, objective: Dpo, output: Path, context: Context) -> Model:
            got.append((objective, context.plugin_files))
            (output / "model.safetensors").write_bytes(b"weights")
            return evolve(model, name=str(output))

    (tmp_path / "mine.py").write_text("def release(model):\n    pass\n")
    (tmp_path / "examples.jsonl").write_text("{}\n")
    registry = registry_of(Recording())
    registry.load_files([PluginFile.of(str(tmp_path / "mine.py"))])
    objective = Dpo(beta=0.7)
    stages.train_step(
        registry, MODEL, MODEL, objective, tmp_path / "examples.jsonl", tmp_path / "checkpoint", Context()
    )
    assert got == [(objective, as_stored(registry.files))]
    assert len(registry.files) == 1


def test_expected_scores_of_a_plugin_that_has_none_are_refused_before_any_item_is_read() -> None:
    registry = registry_of(Scripted(lambda items: []))
    with pytest.raises(InputError, match=r"(?s)score: expected; plugin 'plugin'.*samples: 2;"):
        stages.judge(registry, MODEL, [ITEM], RUBRIC, 2, Sampling(), Context(), score="expected")


def test_release_reaches_only_the_models_own_plugin() -> None:
    mine, other = Trainer(), Trainer()
    registry = registry_of(mine)
    registry.register(other, "other")
    stages.release(registry, MODEL)
    assert (mine.released, other.released) == ([MODEL], [])


def test_an_error_in_a_wrapper_of_release_names_the_wrapper(tmp_path: Path) -> None:
    (tmp_path / "strict.py").write_text(STRICT_RELEASE)
    registry = registry_of(Trainer())
    registry.load_files([PluginFile.of(str(tmp_path / "strict.py"))])
    with pytest.raises(StageError, match=r"failed in 'strict': KeyError: 'mine' \(strict.py, line 8\)"):
        stages.release(registry, MODEL)


def test_release_does_nothing_for_a_plugin_without_the_hook() -> None:
    assert stages.release(registry_of(Scripted(answers)), MODEL) is None  # type: ignore[func-returns-value]


def test_a_stage_that_the_plugin_does_not_implement_is_refused_immediately() -> None:
    with pytest.raises(PluginError, match="does not implement 'judge'"):
        stages.judge(registry_of(Trainer()), MODEL, [ITEM], RUBRIC, 1, Sampling(), Context())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_metric_that_is_not_finite_stops_the_training_of_any_plugin(value: float, tmp_path: Path) -> None:
    class Overflowing:
        @hookimpl
        def train_step(self, model: Model, output: Path, context: Context) -> object:
            context.log({"step": 1, "loss": 0.5, "note": None, "tokens": 10})
            context.log({"step": 2, "loss": value})
            raise AssertionError("the plugin went on")

    rows: list[Mapping[str, Any]] = []
    (tmp_path / "examples.jsonl").write_text("{}\n")
    registry, output = registry_of(Overflowing()), tmp_path / "checkpoint"
    with pytest.raises(StageError, match=rf"was stopped at step 2: loss is {value}\. No checkpoint was written"):
        stages.train_step(registry, MODEL, MODEL, Dpo(), tmp_path / "examples.jsonl", output, Context(log=rows.append))
    assert [row["step"] for row in rows] == [1]


class Sampler:
    """Reads ``sampling`` in one hook, and not in the other; its models apply the keys that it names."""

    def __init__(self, *keys: str) -> None:
        self.keys = keys

    @hookimpl
    def describe(self) -> PluginInfo:
        return PluginInfo("Samples.", sampling=self.keys)

    @hookimpl
    def generate_candidates(self, prompts: Iterable[Prompt], sampling: Sampling) -> Iterator[Candidate]:
        return answers(prompts)

    @hookimpl
    def demonstrate(self, prompts: Iterable[Prompt]) -> Iterator[Demonstration]:
        return (Demonstration(prompt.id, "yes") for prompt in prompts)


@pytest.mark.parametrize(
    ("keys", "sampling", "refused"),
    [
        ((), Sampling(), []),
        ((), Sampling(top_k=40, min_p=0.1), ["top_k: 40", "min_p: 0.1"]),
        (("top_k",), Sampling(top_k=40), []),
        (("top_k",), Sampling(top_k=40, min_p=0.1), ["min_p: 0.1"]),
        (("top_k", "min_p"), Sampling(top_k=40, min_p=0.1), []),
    ],
)
def test_a_sampling_key_that_the_plugin_would_ignore_is_refused_by_name(
    keys: tuple[str, ...], sampling: Sampling, refused: list[str]
) -> None:
    registry = registry_of(Sampler(*keys))
    found = list(sampling_problems(registry, "plugin", "generate_candidates", sampling))
    assert [line.partition(";")[0] for line in found] == refused
    assert all("cannot apply it in generate_candidates: leave it out" in line for line in found)
    if refused:
        with pytest.raises(InputError, match=f"{refused[0]}; plugin 'plugin' .* cannot apply it"):
            stages.generate_candidates(registry, MODEL, PROMPTS, 1, sampling)
    else:
        assert len(list(stages.generate_candidates(registry, MODEL, PROMPTS, 1, sampling))) == len(PROMPTS)


def test_a_hook_that_samples_nothing_ignores_no_sampling_key() -> None:
    found = stages.demonstrate(registry_of(Sampler()), MODEL, PROMPTS, Sampling(top_k=40, min_p=0.1))
    assert len(list(found)) == len(PROMPTS)
