"""The actions of the steps that combine judgements and select answers: no model is called."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePosixPath

from tutelage.execution.step_context import Artifact, StepContext, rows_artifact
from tutelage.planning.judge_steps import CombineScores, MakeWinRates, SelectDisputed
from tutelage.preferences.combining import combine, disputed, win_rates
from tutelage.records import Candidate, Judgement, Verdict


def combine_scores(step: CombineScores, at: StepContext) -> Artifact:
    """Combine the judgements of several judges. The counts have the outcomes, and the abstentions by judge."""
    parts = {_name(part): at.store.read(part, Judgement) for part in step.parts}
    found = combine(parts, step.how)
    counts = Counter(str(one.outcome) for one in found.judgements)
    rows = found.judgements
    return Artifact({**counts, **found.abstentions}, lambda: at.store.write(step.output, rows), rows=len(rows))


def select_disputed(step: SelectDisputed, at: StepContext) -> Artifact:
    """Select the answers on which the samples of a judge disagree. There may be none."""
    answers = at.store.read(step.answers, Candidate)
    rows = disputed(answers, at.store.read(step.judgements, Judgement), step.spread, step.share)
    return rows_artifact(step, at, "disputed", rows)


def make_win_rates(step: MakeWinRates, at: StepContext) -> Artifact:
    """Make the win rates of the verdicts."""
    prompts = {prompt.id: prompt for prompt in at.prompts(step.prompts)}
    rows = win_rates(prompts, at.store.read(step.answers, Candidate), at.store.read(step.verdicts, Verdict))
    counts = Counter(str(one.outcome) for one in rows)
    return Artifact(counts, lambda: at.store.write(step.output, rows), rows=len(rows))


def _name(path: str) -> str:
    """The name of a judge of a jury, or of the artifact."""
    return PurePosixPath(path).name.removesuffix(".jsonl").rpartition(".")[2]
