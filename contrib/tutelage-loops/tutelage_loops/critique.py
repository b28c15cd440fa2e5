"""Critique and revision by the teacher: the teacher's revision of an answer is preferred to the answer.

- Bai et al. (2022), "Constitutional AI", section 3.1: a model first criticises an answer, then revises it with the
  critique. In the paper the student does both, and is trained on the revisions alone.
- D'Oosterlinck et al. (2024), "Anchored Preference Optimization and Contrastive Revisions", section 3 (CLAIR): a
  stronger model revises the student's answer, and the pair is (revision, answer). The revision changes little, so that
  the two sides differ only in the corrected faults. In the paper critique and revision are one reply.

One answer per prompt is revised, as in CLAIR: the first one that is complete. The teacher needs the hook
``demonstrate``. An answer whose revision equals it makes no pair.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tutelage import (
    Candidate,
    DemonstrateStep,
    Demonstration,
    Outcome,
    Pipeline,
    Preference,
    Prompt,
    SampleStep,
    TrainStep,
    TransformStep,
)

CRITIQUE = """\
Name the faults of an answer to a request, in at most three sentences. Do not write another answer. If it has no fault,
say that it is right.

The answer:
{answer}

The request:
{prompt}"""
"""The request for a critique."""
REVISION = """\
Revise an answer to a request. Remove the faults that a critique names, and change nothing else. Reply with the revised
answer only.

The answer:
{answer}

The critique:
{critique}

The request:
{prompt}"""
"""The request for a revision."""


def critique_requests(prompts: Sequence[Prompt], candidates: Sequence[Candidate]) -> Iterator[Prompt]:
    """Ask for a critique of one answer per prompt."""
    for prompt, answer in _answered(prompts, candidates):
        yield _critique_request(prompt, answer)


def revision_requests(
    prompts: Sequence[Prompt], candidates: Sequence[Candidate], critiques: Sequence[Demonstration]
) -> Iterator[Prompt]:
    """Ask for a revision of each answer that has a critique."""
    for _, _, request in _revised(prompts, candidates, critiques):
        yield request


def pairs(
    prompts: Sequence[Prompt],
    candidates: Sequence[Candidate],
    critiques: Sequence[Demonstration],
    revisions: Sequence[Demonstration],
) -> Iterator[Preference]:
    """Prefer each revision to its answer."""
    revised = _texts(revisions)
    for prompt, answer, request in _revised(prompts, candidates, critiques):
        if text := revised.get(request.id):
            ids = f"{answer.id}/revision", answer.id
            yield Preference(prompt.id, prompt.text, text, answer.text, *ids, messages=prompt.messages)


def _answered(prompts: Sequence[Prompt], candidates: Sequence[Candidate]) -> Iterator[tuple[Prompt, Candidate]]:
    """Each prompt with its first complete answer."""
    first: dict[str, Candidate] = {}
    for one in candidates:
        if one.outcome is Outcome.ANSWERED and one.text.strip():
            first.setdefault(one.prompt_id, one)
    return ((prompt, first[prompt.id]) for prompt in prompts if prompt.id in first)


def _revised(
    prompts: Sequence[Prompt], candidates: Sequence[Candidate], critiques: Sequence[Demonstration]
) -> Iterator[tuple[Prompt, Candidate, Prompt]]:
    """Each prompt with its answer and the request for a revision, if there is a critique."""
    found = _texts(critiques)
    for prompt, answer in _answered(prompts, candidates):
        if critique := found.get(_critique_request(prompt, answer).id):
            text = REVISION.format(answer=answer.text, critique=critique, prompt=prompt.text)
            yield prompt, answer, Prompt(text, "revision", metadata=prompt.metadata)


def _critique_request(prompt: Prompt, answer: Candidate) -> Prompt:
    return Prompt(CRITIQUE.format(answer=answer.text, prompt=prompt.text), "critique", metadata=prompt.metadata)


def _texts(replies: Sequence[Demonstration]) -> Mapping[str, str]:
    """The complete replies by the id of their request."""
    return {one.prompt_id: one.text.strip() for one in replies if one.outcome is Outcome.ANSWERED}


CRITIQUE_AND_REVISE = Pipeline(
    "the teacher criticises and revises the student's answer; the revision is chosen",
    (
        SampleStep("candidates"),
        TransformStep("critique-requests", critique_requests, reads=("prompts", "candidates"), makes="prompts"),
        DemonstrateStep("critiques", "critique-requests"),
        TransformStep(
            "revision-requests", revision_requests, reads=("prompts", "candidates", "critiques"), makes="prompts"
        ),
        DemonstrateStep("revisions", "revision-requests"),
        TransformStep("pairs", pairs, reads=("prompts", "candidates", "critiques", "revisions"), makes="preferences"),
        TrainStep("pairs"),
    ),
)
