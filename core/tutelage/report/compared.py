"""The contents of the page that compares models of one or several runs: sentences and the answers to shared prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from attrs import frozen

from tutelage.evaluation.intervals import Metric
from tutelage.records import Prompt
from tutelage.report.answers import ShownAnswer, ShownAnswers, ShownPrompt, answers_of
from tutelage.results.comparing import ComparedModel, ModelsCompared
from tutelage.results.selecting import SelectedModel
from tutelage.results.wording import metric_words

SIGNIFICANT = 0.05
"""Adjusted p-value below which the sentences call a difference measurable."""
METRIC_NAMES = {"gold_score": "gold score", "gold_exact": "share of top scores", "answer_words": "number of words"}


@frozen
class ComparedContents:
    """Everything that the page shows."""

    compared: ModelsCompared
    sentences: tuple[str, ...]
    """The sentences at the top of the page."""
    answers: ShownAnswers
    """The greedy answers of the models, in the order of ``compared``, to the prompts that at least two answered."""

    @property
    def metric(self) -> str:
        """The compared metric as text."""
        return METRIC_NAMES.get(self.compared.metric, self.compared.metric)

    @property
    def decimals(self) -> int:
        """Number of decimals of the metric."""
        return 1 if self.compared.metric == "answer_words" else 3

    def differences(self) -> dict[str, Metric]:
        """Return the differences by the name of the model."""
        return {one.name: one.separation.difference for one in self.compared.models if one.separation}

    def against(self) -> str:
        """Return the name of the model that all others are compared with; a description if there are several."""
        names = {one.against for one in self.compared.models if one.against is not None}
        return names.pop() if len(names) == 1 else "the model of the same name in the first run, variant or seed"


def read_compared(models: Sequence[SelectedModel], compared: ModelsCompared) -> ComparedContents:
    """Return the contents of the page. ``models`` are those that were compared.

    Raises ``InputError`` if an artifact is damaged.
    """
    names = [one.name for one in compared.models]
    shown = sorted((model for model in models if model.name in names), key=lambda model: names.index(model.name))
    return ComparedContents(compared, tuple(sentences(compared)), _shared_answers(shown))


def sentences(compared: ModelsCompared) -> Iterator[str]:
    """Yield the sentences at the top of the page: which differences are measurable."""
    metric = METRIC_NAMES.get(compared.metric, compared.metric)
    pairs = [one for one in compared.models if one.separation]
    found = [one for one in pairs if one.p_value_adjusted is not None and one.p_value_adjusted < SIGNIFICANT]
    if not pairs:
        yield "No model is compared: the other runs have no model of the same name."
        return
    if len(pairs) == 1:
        yield _of_one(pairs[0], metric, compared.metric, is_measurable=bool(found))
    else:
        count = f"{len(found)} of {len(pairs)}" if found else f"None of the {len(pairs)}"
        verb = "is" if len(found) < 2 else "are"
        yield f"{count} differences in {metric} {verb} measurable."
        for one in found:
            yield _of_one(one, metric, compared.metric, is_measurable=True)
    adjusted = f", adjusted for {len(pairs)} comparisons by Holm's method" if len(pairs) > 1 else ""
    yield (
        f"Measurable means a p-value below {SIGNIFICANT}{adjusted}. Brackets are 95% intervals, paired by prompt for "
        "differences."
    )


def _of_one(one: ComparedModel, metric: str, key: str, is_measurable: bool) -> str:
    assert one.separation is not None
    difference = one.separation.difference
    words = metric_words(difference, decimals=1 if key == "answer_words" else 3, sign=True)
    if not is_measurable:
        return f"Whether {one.name} differs from {one.against} in {metric} is open: {words}."
    return (
        f"{one.name} has a {'higher' if (difference.value or 0) > 0 else 'lower'} {metric} than {one.against}: {words}."
    )


def _shared_answers(models: Sequence[SelectedModel]) -> ShownAnswers:
    """The answers to the prompts that at least two models answered.

    A prompt is shown once per seed if all models have a common seed. Otherwise it is shown once, with the answer of
    each model's first seed, as models without a common seed are paired by prompt alone.
    """
    seeds = [{planned.seed for planned in model.planned()} for model in models]
    common = set.intersection(*seeds)
    texts: dict[tuple[int | None, str], str] = {}
    files: dict[int | None, list[str]] = {}
    found: list[dict[tuple[int | None, str], ShownAnswer]] = []
    for number, model in enumerate(models):
        run, answers = model.results.run, dict[tuple[int | None, str], ShownAnswer]()
        found.append(answers)
        for planned in model.planned() if common else model.planned()[:1]:
            seed = planned.seed if common else None
            for prompt in run.store.read(run.evaluation_plan(planned.seed).files.prompts, Prompt):
                texts.setdefault((seed, prompt.id), prompt.text)
            answers |= {(seed, id): answer for id, answer in answers_of(run, planned).items()}
            files.setdefault(seed, [""] * len(models))[number] = str(run.store.path(planned.files.held_out("greedy")))
    rows = (
        ShownPrompt(id, seed, text, tuple(answers.get((seed, id)) for answers in found))
        for (seed, id), text in texts.items()
    )
    shared = tuple(row for row in rows if sum(answer is not None for answer in row.answers) > 1)
    return ShownAnswers(
        tuple(model.name for model in models), (), shared, {seed: tuple(paths) for seed, paths in files.items()}
    )
