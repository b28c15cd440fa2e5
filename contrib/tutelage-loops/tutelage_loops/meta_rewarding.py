"""Meta-Rewarding: the student judges its answers, then its judgements; the pairs of both are trained on together.

Wu et al. (2024), "Meta-Rewarding Language Models", section 2:

- Actor pairs: the answers are ordered by the mean of several judgements (11 in the paper; ``judging.samples`` of the
  recipe). The chosen answer is the shortest of those near the best score: the rule ``length-controlled``.
- Judge pairs: of each prompt, the answer whose judgements vary most is taken. Its judge prompt is the prompt of the
  pair, and two replies to it are the sides.
- Meta-judge: the same student judges the replies. The paper lets it compare every two replies in both orders and orders
  them by their Elo scores. Here it scores each reply with a rubric, and the best and the worst one make the pair.
- Both sets of pairs are joined for one DPO training.

The student must be a language model, because its replies are trained on. A transform does not get the rubric of the
recipe, so the pipeline names its rubric. ``META_REWARDING_TINY`` is the same pipeline with the rubric of the embedded
world, which is also its rubric for the replies.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

from tutelage import (
    ADDITIVE_RUBRIC,
    FENCED_ANSWER,
    Candidate,
    JoinStep,
    JudgeItem,
    Judgement,
    JudgeStep,
    PairStep,
    Pipeline,
    Prompt,
    Rubric,
    SampleStep,
    TrainStep,
    TransformStep,
    render,
)
from tutelage_tiny.rubric import ADDITIVE as TINY_RUBRIC

META_RUBRIC = Rubric(
    "meta",
    """\
A judge graded an assistant's answer. Its instructions are the request below, its reply is the answer below. Grade the
reply. Start at 0 and add one point for each statement that holds:
1. The reply has the form that the instructions ask for.
2. Its points follow the scale of the instructions.
3. The reason refers to the graded answer, and is true of it.
4. The points agree with the reason.
5. You would give the same number of points.

"""
    + FENCED_ANSWER
    + '\nReply with "score: " and the number of points from 0 to 5, then on a new line the reason in one sentence.',
    score_prefix="score: ",
)
"""The rubric of the meta-judge, for judgements by ``ADDITIVE_RUBRIC``."""
_ANSWER = "judged answer"
"""Key of the metadata of a judge prompt: the id of the judged answer."""


def judge_prompts(
    prompts: Sequence[Prompt], candidates: Sequence[Candidate], judgements: Sequence[Judgement]
) -> Iterator[Prompt]:
    """Write the judge prompt of one answer per prompt, with the rubric ``additive``."""
    return _judge_prompts(ADDITIVE_RUBRIC, prompts, candidates, judgements)


def tiny_judge_prompts(
    prompts: Sequence[Prompt], candidates: Sequence[Candidate], judgements: Sequence[Judgement]
) -> Iterator[Prompt]:
    """Write the judge prompt of one answer per prompt, with the rubric ``tiny/additive``."""
    return _judge_prompts(TINY_RUBRIC, prompts, candidates, judgements)


def judge_replies(asked: Sequence[Prompt], judgements: Sequence[Judgement]) -> Iterator[Candidate]:
    """Return the replies of the judge as answers to the judge prompts."""
    replies = _by_answer(judgements)
    for prompt in asked:
        for one in replies[prompt.metadata[_ANSWER]]:
            yield Candidate(prompt.id, one.sample, one.raw)


def _judge_prompts(
    rubric: Rubric, prompts: Sequence[Prompt], candidates: Sequence[Candidate], judgements: Sequence[Judgement]
) -> Iterator[Prompt]:
    """The judge prompt of the answer of each prompt whose scores vary most, if it has two different replies."""
    replies, answers = _by_answer(judgements), defaultdict(list)
    for one in candidates:
        if len({judgement.raw for judgement in replies.get(one.id, ())}) > 1:
            answers[one.prompt_id].append(one)
    for prompt in prompts:
        if found := answers.get(prompt.id):
            most = max(found, key=lambda one: statistics.pstdev(reply.score or 0.0 for reply in replies[one.id]))
            item = JudgeItem(most.id, prompt.text, most.text)
            yield Prompt(render(rubric, item), "judge", metadata={_ANSWER: most.id})


def _by_answer(judgements: Sequence[Judgement]) -> Mapping[str, list[Judgement]]:
    """The judgements that have a score and a text, by the id of the answer."""
    found = defaultdict(list)
    for one in judgements:
        if one.score is not None and one.raw.strip():
            found[one.item_id].append(one)
    return found


def pipeline(rubric: str, meta_rubric: str, ask: Callable[..., Iterator[Prompt]]) -> Pipeline:
    """Return the pipeline for a rubric by its name. ``ask`` writes judge prompts with the same rubric."""
    return Pipeline(
        f"Meta-Rewarding: the student judges its judgements, too, with the rubric {rubric}",
        (
            SampleStep("candidates"),
            JudgeStep("judgements", "candidates", rubric=rubric),
            PairStep("actor-pairs", "candidates", rule="length-controlled", scores="judgements"),
            TransformStep("judge-prompts", ask, reads=("prompts", "candidates", "judgements"), makes="prompts"),
            TransformStep("judge-replies", judge_replies, ("judge-prompts", "judgements"), "candidates", times=2),
            JudgeStep("meta-judgements", "judge-replies", prompts="judge-prompts", rubric=meta_rubric),
            PairStep(
                "judge-pairs", "judge-replies", "best-worst", "meta-judgements", prompts="judge-prompts", fixed=True
            ),
            JoinStep("pairs", ("actor-pairs", "judge-pairs")),
            TrainStep("pairs"),
        ),
    )


META_REWARDING = pipeline("additive", "loops/meta", judge_prompts)
META_REWARDING_TINY = pipeline("tiny/additive", "tiny/additive", tiny_judge_prompts)
