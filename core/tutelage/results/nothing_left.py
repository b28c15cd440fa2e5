"""Messages for steps that leave nothing: the causes with their counts, and the recipe keys that would change them.

The counts of a message have one unit, which the message names.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from tutelage.planning.steps import (
    BuildExamples,
    MakePairs,
    SelectExamples,
    SelectPreferences,
    SelectPrompts,
    WritePrompts,
)
from tutelage.preferences.pairing import NO_DEMONSTRATION, UNSCORED
from tutelage.recipe.data_section import SelfInstruct
from tutelage.recipe.schema import Recipe
from tutelage.records import Outcome


@frozen
class Cause:
    """One cause of a prompt without a pair."""

    happened: str
    """The state of the prompt's answers, as a clause after "because"."""
    change: str
    """The recipe keys to change, with the values that they have."""


def cause_of(reason: str, step: MakePairs, recipe: Recipe) -> Cause:
    """Return the text for a cause of ``Pairing.causes``. A reason of a third-party rule is its own text."""
    generation, judging = recipe.generation, recipe.judging
    more = f"raise generation.temperature (now {generation.temperature:g}) or generation.n (now {generation.n})"
    longer = f"raise generation.max_new_tokens (now {generation.max_new_tokens}) or set pairs.keep_cut to true"
    score = f"judging.rubric (now {judging.rubric}), judging.max_new_tokens (now {judging.max_new_tokens})"
    causes = {
        "tied": Cause(
            "the best and the worst answer have the same score",
            f"{more}; raise judging.samples (now {judging.samples}) with judging.temperature above 0; "
            f"set a judging.rubric with a finer scale (now {judging.rubric}) or another judge (models)",
        ),
        "margin too small": Cause(
            "the scores differ by less than the margin", f"lower pairs.margin (now {step.margin:g}); {more}"
        ),
        "same text": Cause("the two sides have the same text", more),
        "empty text": Cause("a side is empty", "look at the answers; change the prompts (data.prompts)"),
        "chosen scored lower than rejected": Cause(
            "the rule chose the answer with the lower score", f"set another pairs.rule (now {step.rule})"
        ),
        "the rule proposed nothing": Cause("the rule proposed nothing", f"set another pairs.rule (now {step.rule})"),
        "no two scored answers of similar length": Cause(
            "no two scored answers have a similar length",
            f"raise pairs.length_ratio (now {step.length_ratio:g}); {more}",
        ),
        "fewer than two scored answers": Cause(
            "there are fewer than two answers", f"raise generation.n (now {generation.n})"
        ),
        "fewer than two different answers": Cause("all answers have the same text", more),
        "no usable answer": Cause("there is no answer", f"raise generation.n (now {generation.n})"),
        "no scored answer": Cause("there is no answer with a score", f"change {score}"),
        NO_DEMONSTRATION: Cause("there is no demonstration", "look at the teacher's answers; change models.teacher"),
        UNSCORED: Cause(
            "the judge gave no score that could be read to enough answers",
            f"change {score}; bind another judge (models), or train M1 on judging examples (data.eft)",
        ),
        f"answer {Outcome.CUT}": Cause("answers were cut at the length limit", longer),
        f"answer {Outcome.REFUSED}": Cause(
            "the student's service refused to answer", "change the prompts (data.prompts) or models.student"
        ),
        f"answer {Outcome.UNPARSED}": Cause("answers could not be read", "change models.student"),
        f"answer {Outcome.FAILED}": Cause(
            "answers failed", "shorten the prompts (data.prompts), or change models.student.settings"
        ),
        "answer empty": Cause(
            "answers are empty", "train M1 longer (sft.epochs), or change the prompts (data.prompts)"
        ),
        f"demonstration {Outcome.CUT}": Cause("the demonstration was cut at the length limit", longer),
        f"demonstration {Outcome.REFUSED}": Cause(
            "the teacher refused to answer", "change the prompts (data.prompts) or models.teacher"
        ),
        f"demonstration {Outcome.FAILED}": Cause(
            "the demonstration failed", "check models.teacher with `tutelage doctor`, and run the command again"
        ),
        f"demonstration {Outcome.UNPARSED}": Cause("the demonstration could not be read", "change models.teacher"),
        "demonstration empty": Cause("the demonstration is empty", "change models.teacher"),
    }
    return causes.get(reason, Cause(reason, f"set another pairs.rule (now {step.rule}), or look at its documentation"))


def no_pair(step: MakePairs, recipe: Recipe, causes: Mapping[str, int], prompts: int, show: str) -> str:
    """Return the message for a step that made no pair.

    ``causes`` counts prompts, ``prompts`` is their total, and ``show`` is the command that shows the answers.
    """
    if not prompts:
        source = f"the pairs of {step.like}" if step.like else step.prompts
        return f"{step.output}: no pair was left to train on: {source} has no prompt; see data.prompts"
    parts = []
    for reason, count in sorted(causes.items(), key=lambda item: (-item[1], item[0])):
        cause = cause_of(reason, step, recipe)
        parts.append(f"  {count:,} because {cause.happened}: {cause.change}")
    return "\n".join(
        [
            f"{step.output}: no pair was left to train on. The prompts without a pair ({prompts:,} of {prompts:,}), "
            "and what would change it:",
            *parts,
            f"`{show}` shows the answers and the scores",
        ]
    )


def no_row(
    step: BuildExamples | SelectExamples | SelectPrompts | SelectPreferences, recipe: Recipe, dropped: int
) -> str:
    """Return the message for a step of whose sources no row is left; ``dropped`` contained an evaluation prompt."""
    if isinstance(step, BuildExamples):
        keys = "data.ift and data.eft"
    elif isinstance(step, SelectExamples):
        keys = "data.ift"
    elif isinstance(step, SelectPreferences):
        keys = f"data.preferences ({step.source})"
    else:
        keys = f"{'data.prompts' if step.decontaminate else 'evaluation.prompts'} ({step.source})"
    settings = recipe.data.decontaminate
    if not dropped or settings is None:
        return f"{step.output}: no {step.unit} are left: the sources have none; check {keys}"
    return (
        f"{step.output}: no {step.unit} are left: all {dropped:,} {step.unit} of the sources contain an evaluation "
        f"prompt; check {keys}, which should not be the evaluation set (evaluation.prompts), or raise "
        f"data.decontaminate.share (now {settings.share:g}) or data.decontaminate.n (now {settings.n})"
    )


def no_prompt(step: WritePrompts, settings: SelfInstruct, requests: int, dropped: Mapping[str, int]) -> str:
    """Return the message for a writer of whose prompts none could be kept.

    ``dropped`` counts replies (reasons that begin with "reply") and written prompts by reason.
    """
    key = "data.prompts.self_instruct"
    longer = f"raise {key}.max_new_tokens (now {settings.max_new_tokens})"
    listing = f"set another {key}.listing (now {settings.listing})"
    hotter = f"raise {key}.temperature (now {settings.temperature:g}) or {key}.similarity (now {settings.similarity:g})"
    changes = {
        f"reply {Outcome.REFUSED}": f"set another {key}.writer (now {settings.writer}) or data.prompts.source",
        f"reply {Outcome.FAILED}": "check the writer with `tutelage doctor`, and run the command again",
        "reply without a prompt": listing,
        "repeats an earlier prompt": hotter,
        "too short": f"lower {key}.min_characters (now {settings.min_characters})",
        "too long": f"raise {key}.max_characters (now {settings.max_characters})",
        "cut off": longer,
        "not an item of the list": listing,
        "holds an evaluation prompt": "see data.decontaminate",
    }
    of_replies = {reason: count for reason, count in dropped.items() if reason.startswith("reply ")}
    of_prompts = {reason: count for reason, count in dropped.items() if reason not in of_replies}
    lines = [f"{step.output}: no prompt could be kept after {requests:,} requests (at most {settings.max_requests:,})."]
    for unit, reasons in (("replies", of_replies), ("written prompts", of_prompts)):
        if reasons:
            lines.append(f"{unit} that were not used, {sum(reasons.values()):,}:")
        for reason, count in sorted(reasons.items(), key=lambda item: (-item[1], item[0])):
            change = changes.get(reason, f"set another {key}.writer (now {settings.writer})")
            lines.append(f"  {count:,} {reason.removeprefix('reply ')}: {change}")
    return "\n".join(lines)
