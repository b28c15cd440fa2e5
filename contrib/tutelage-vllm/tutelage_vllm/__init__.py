"""A tutelage plugin that samples and judges with the student's models through vLLM's OpenAI-compatible server.

The run starts the server on the weights of one model at a time, at a free port of 127.0.0.1, and stops it before a
training and at the end. The server may run in a virtual environment of its own. This module only has the hooks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tutelage import (
    Candidate,
    Comparison,
    Context,
    Demonstration,
    Finding,
    JudgeItem,
    Judgement,
    Model,
    PluginInfo,
    Prompt,
    Rubric,
    RunNeeds,
    Sampling,
    Verdict,
    hookimpl,
    judgement_from_reply,
    render,
    render_comparison,
)
from tutelage_vllm.settings import NEUTRAL_SETTINGS, VllmSettings


@hookimpl
def describe() -> PluginInfo:
    """Describe the plugin. Each answer is stored as soon as it arrives: a server that ends loses none of them."""
    return PluginInfo(
        help="vLLM, SGLang and alike, started by the run: samples and judges for a student that another plugin trains.",
        settings=VllmSettings,
        neutral_settings=NEUTRAL_SETTINGS,
        item_by_item=True,
        sampling=("top_k", "min_p"),
    )


@hookimpl
def check(settings: VllmSettings | None, name: str) -> Iterator[Finding]:
    """Check whether the server can be started."""
    from tutelage_vllm import checking

    return checking.check(settings, name)


@hookimpl
def check_run(settings: VllmSettings | None, name: str, needs: RunNeeds) -> Iterator[Finding]:
    """Check the server and the model for a run."""
    from tutelage_vllm import checking

    return checking.check_run(settings, name, needs)


@hookimpl
def generate_candidates(
    model: Model, prompts: Iterable[Prompt], n: int, sampling: Sampling, context: Context
) -> Iterator[Candidate]:
    """Answer each prompt ``n`` times."""
    from tutelage_vllm.answering import Sample, answers

    samples = (Sample(prompt.id, prompt.turns, index) for prompt in prompts for index in range(n))
    for one in answers(model, samples, sampling, context):
        reply = one.reply
        yield Candidate(one.about, one.index, reply.text, reply.outcome, reply.detail, reply.output_tokens)


@hookimpl
def demonstrate(
    model: Model, prompts: Iterable[Prompt], sampling: Sampling, context: Context
) -> Iterator[Demonstration]:
    """Answer each prompt once."""
    from tutelage_vllm.answering import Sample, answers

    samples = (Sample(prompt.id, prompt.turns, 0) for prompt in prompts)
    for one in answers(model, samples, sampling, context):
        yield Demonstration(one.about, one.reply.text, one.reply.outcome, one.reply.detail)


@hookimpl
def judge(
    model: Model, items: Iterable[JudgeItem], rubric: Rubric, samples: int, sampling: Sampling, context: Context
) -> Iterator[Judgement]:
    """Score answers by the model's completion of the rubric's prompt."""
    from tutelage.preferences.judging import question_messages
    from tutelage_vllm.answering import Sample, answers

    asked = (
        Sample(item.id, question_messages(rubric, render(rubric, item)), index)
        for item in items
        for index in range(samples)
    )
    for one in answers(model, asked, sampling, context):
        yield judgement_from_reply(one.about, one.index, one.reply, rubric)


@hookimpl
def evaluate(
    model: Model, comparisons: Iterable[Comparison], rubric: Rubric, sampling: Sampling, context: Context
) -> Iterator[Verdict]:
    """Compare two answers by the model's completion of a pairwise rubric's prompt."""
    from tutelage.preferences.judging import question_messages
    from tutelage.preferences.replies import verdict_from_reply
    from tutelage_vllm.answering import Sample, answers

    asked = (
        Sample(comparison.id, question_messages(rubric, render_comparison(rubric, comparison)), 0)
        for comparison in comparisons
    )
    for one in answers(model, asked, sampling, context):
        yield verdict_from_reply(one.about, one.reply, rubric)


@hookimpl
def release(model: Model) -> None:
    """Stop the server, if it has this model."""
    from tutelage_vllm import answering

    answering.release(model)
