"""SPIN: the answers of the instruction data are chosen, the student's own answers to them are rejected.

Chen et al. (2024), "Self-Play Fine-Tuning Converts Weak Language Models to Strong Language Models", section 4:

- Algorithm 1: the student answers each prompt of the supervised data once. The pair is (answer of the data, answer of
  the student). No judge and no fresh prompts are needed.
- Eq. 4.7: the loss is the logistic one on the difference of the two log-ratios, which is DPO's loss ``sigmoid``. The
  reference is the model of the round before: ``reference: previous`` in the recipe, the default.
- Section 6.1: from the second round on, the paper also trains on the pairs of the round before. ``preferences: all`` in
  the recipe trains on the pairs of all rounds.

If the student answers all prompts as the data does, no pair is left. A small student that learned a few examples by
heart is at this point before the first round. ``SPIN_ON_PREFERENCES`` takes answers that M1 was not trained on: the
chosen answers of preference data.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tutelage import (
    ChosenStep,
    Demonstration,
    Example,
    GivenStep,
    PairStep,
    Pipeline,
    Prompt,
    SampleStep,
    TrainStep,
    TransformStep,
)


def questions(examples: Sequence[Example]) -> Iterable[Prompt]:
    """Return the instructions of the examples, each once."""
    return {prompt.id: prompt for prompt in map(_prompt, examples)}.values()


def answers(examples: Sequence[Example]) -> Iterable[Demonstration]:
    """Return the answers of the examples; of an instruction with several answers, the last one."""
    return {prompt.id: Demonstration(prompt.id, one.answer) for one in examples for prompt in [_prompt(one)]}.values()


def _prompt(example: Example) -> Prompt:
    return Prompt.of_messages(example.turns, "ift")


def pipeline(help: str, *truth: GivenStep | ChosenStep) -> Pipeline:
    """Return the pipeline for examples that the steps of ``truth`` make; the last one makes the artifact ``truth``."""
    return Pipeline(
        help,
        (
            *truth,
            TransformStep("questions", questions, reads=("truth",), makes="prompts"),
            TransformStep("answers", answers, reads=("truth",), makes="demonstrations"),
            SampleStep("own", "questions", n=1),
            PairStep("pairs", "own", "demonstration-vs-own", demonstrations="answers", prompts="questions", fixed=True),
            TrainStep("pairs"),
        ),
    )


SPIN = pipeline("SPIN: the answers of data.ift are chosen, the student's own rejected", GivenStep("truth", "ift"))
SPIN_ON_PREFERENCES = pipeline(
    "SPIN on the chosen answers of data.preferences; the student's own are rejected",
    GivenStep("given", "preferences"),
    ChosenStep("truth", "given"),
)
