"""A reward model as judge: a tiny random Llama classifier made here, its scores, its verdicts, and its checks."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from tutelage import judge
from tutelage.context import Context
from tutelage.errors import InputError, StageError
from tutelage.plugin_info import RunNeeds
from tutelage.plugins import stages
from tutelage.plugins.registry import Registry
from tutelage.preferences.judging import ADDITIVE_RUBRIC, PAIRWISE_RUBRIC, REWARD_RUBRIC
from tutelage.records import Comparison, JudgeItem, Judgement, Message, Model, Outcome, Prompt, Sampling
from tutelage_transformers.checking import check_run
from tutelage_transformers.models.chat import answer_text, encode, prompt_text
from tutelage_transformers.models.tokenizers import read_tokenizer

Make = Callable[..., Path]
ITEMS = [
    JudgeItem("a", "sort the words apple pear", "apple pear"),
    JudgeItem("b", "sort the words apple pear", "dog"),
    JudgeItem("c", "please", "cat dog cow " * 20, messages=(Message("user", "please"),)),
]


def write_classifier(folder: Path, labels: int = 1, poison: bool = False) -> Path:
    """Write a tiny random Llama classifier beside the tokenizer that is in ``folder``."""
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        num_labels=labels,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=5,
        initializer_range=0.4,
    )
    model = LlamaForSequenceClassification(config)
    if poison:
        torch.nn.init.constant_(model.score.weight, 3e38)
    for name in ("generation_config.json", "model.safetensors"):
        (folder / name).unlink(missing_ok=True)
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def classifier(make_base: Make) -> Path:
    return write_classifier(make_base())


def judged(folder: Path, items: list[JudgeItem], samples: int = 1) -> list[Judgement]:
    settings = {"device": "cpu", "threads": 1, "batch_size": 2}
    model = Model("transformers", str(folder), settings)
    found = judge(Registry.discover(), model, items, REWARD_RUBRIC, samples, Sampling(), Context())
    return sorted(found, key=lambda one: one.id)


def logit(folder: Path, item: JudgeItem) -> float:
    """The logit of one conversation, computed alone by transformers."""
    import torch
    from transformers import AutoModelForSequenceClassification

    tokenizer = read_tokenizer(str(folder), True)
    prompt = [{"role": one.role, "content": one.content} for one in item.turns]
    begin = prompt_text(tokenizer, prompt)
    whole = begin + answer_text(tokenizer, prompt, begin, [{"role": "assistant", "content": item.answer}])
    with torch.inference_mode():
        model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        return float(model(torch.tensor(encode(tokenizer, [whole]))).logits[0, 0])


def test_the_score_is_the_logit_of_prompt_and_answer_in_batches_of_other_lengths(classifier: Path) -> None:
    found = judged(classifier, ITEMS, samples=2)
    assert [one.id for one in found] == ["a#0", "a#1", "b#0", "b#1", "c#0", "c#1"]
    assert {one.outcome for one in found} == {Outcome.ANSWERED}
    for item in ITEMS:
        scores = {one.score for one in found if one.item_id == item.id}
        assert len(scores) == 1
        assert scores.pop() == pytest.approx(logit(classifier, item), abs=1e-4)
    assert len({one.score for one in found}) == 3


def test_the_messages_of_a_conversation_count_and_not_its_transcript(classifier: Path) -> None:
    prompt = Prompt.of_messages([Message("user", "cat"), Message("assistant", "dog"), Message("user", "cow")])
    talk = JudgeItem("talk", prompt.text, "red", messages=prompt.messages)
    [found] = judged(classifier, [talk])
    assert found.score == pytest.approx(logit(classifier, talk), abs=1e-4)
    assert found.score != pytest.approx(logit(classifier, JudgeItem("talk", prompt.text, "red")), abs=1e-4)


def test_an_answer_beyond_the_context_has_no_score(classifier: Path) -> None:
    long = JudgeItem("long", "please", "cat " * 200)
    [_, found] = judged(classifier, [ITEMS[0], long])
    assert (found.score, found.outcome) == (None, Outcome.FAILED)
    assert found.detail == "the prompt and the answer are longer than the model's context"


def test_two_answers_are_compared_by_the_difference_of_their_rewards(classifier: Path) -> None:
    one, other = ITEMS[0], ITEMS[1]
    comparisons = [Comparison("x", one.prompt, one.answer, other.answer)]
    comparisons.append(Comparison("y", one.prompt, other.answer, one.answer))
    model = Model("transformers", str(classifier), {"device": "cpu", "threads": 1})
    found = {
        verdict.id: verdict.preference
        for verdict in stages.evaluate(Registry.discover(), model, comparisons, PAIRWISE_RUBRIC, Sampling(), Context())
    }
    expected = 1 / (1 + math.exp(logit(classifier, other) - logit(classifier, one)))
    assert found["x"] == pytest.approx(expected, abs=1e-4)
    assert found["x"] + found["y"] == pytest.approx(1.0)  # type: ignore[operator]


def test_verdicts_arrive_while_other_answers_are_still_to_be_scored(classifier: Path) -> None:
    """All verdicts of a call of 4,096 arrived at its end. If it was cancelled, answers counted as too long."""
    answers = ["apple pear", "dog", "cat dog cow", "cow"]
    comparisons = [Comparison(f"{one} or {other}", "please", one, other) for one in answers for other in answers]
    model = Model("transformers", str(classifier), {"device": "cpu", "threads": 1, "batch_size": 1})
    scored: list[int] = []
    context = Context(advance=scored.append, cancelled=lambda: len(scored) == 3)
    arrived, scored_before = [], []
    for verdict in stages.evaluate(Registry.discover(), model, comparisons, PAIRWISE_RUBRIC, Sampling(), context):
        arrived.append(verdict)
        scored_before.append(len(scored))
    assert scored_before[0] == 0 and len(scored) == 3
    assert len(arrived) == 3 * 3, "the comparisons of three answers"
    assert {one.outcome for one in arrived} == {Outcome.ANSWERED}
    assert all(one.preference == 0.5 for one in arrived if len(set(one.id.split(" or "))) == 1)


def test_a_rubric_with_limits_is_refused(classifier: Path) -> None:
    model = Model("transformers", str(classifier), {"device": "cpu"})
    with pytest.raises(InputError, match=r"'additive' has the scale 0 to 5, .* set the rubric to reward"):
        list(judge(Registry.discover(), model, ITEMS, ADDITIVE_RUBRIC, 1, Sampling(), Context()))


def test_a_language_model_cannot_judge_without_a_template(base: Path) -> None:
    model = Model("transformers", str(base), {"device": "cpu"})
    with pytest.raises(InputError, match=r"rubric 'reward' has no template"):
        list(judge(Registry.discover(), model, ITEMS, REWARD_RUBRIC, 1, Sampling(), Context()))


def test_a_classifier_does_not_answer(classifier: Path) -> None:
    model = Model("transformers", str(classifier), {"device": "cpu"})
    with pytest.raises(InputError, match="it is a classifier, which only judges; use a model that completes text"):
        list(stages.generate_candidates(Registry.discover(), model, [Prompt("cat")], 1, Sampling(), Context()))


def test_a_reward_that_is_not_finite_stops_the_run(make_base: Make) -> None:
    with pytest.raises((StageError, InputError), match=r"a reward is (nan|-?inf), so there is no score"):
        judged(write_classifier(make_base(), poison=True), ITEMS)


def findings(folder: Path, *hooks: str, **needs: object) -> list[str]:
    found = check_run(None, str(folder), RunNeeds(hooks=frozenset(hooks), download=False, **needs))  # type: ignore[arg-type]
    return [one.detail for one in found if one.ok is False]


def test_a_reward_model_is_checked_before_the_run(classifier: Path, base: Path, tmp_path: Path) -> None:
    assert findings(classifier, "judge", rubrics=(REWARD_RUBRIC,)) == []
    assert findings(base, "judge", rubrics=(ADDITIVE_RUBRIC,)) == []
    [bounded] = findings(classifier, "judge", rubrics=(ADDITIVE_RUBRIC,))
    assert "rubric 'additive' has the scale 0 to 5" in bounded
    [others] = findings(classifier, "judge", "demonstrate", rubrics=(REWARD_RUBRIC,))
    assert "which only judges and compares, and the run calls demonstrate; bind another model" in others
    [template] = findings(base, "judge", rubrics=(REWARD_RUBRIC,))
    assert template == "rubric 'reward' has no template, and a language model needs one; use another rubric"


def test_a_classifier_with_several_labels_is_no_reward_model(make_base: Make) -> None:
    folder = write_classifier(make_base(), labels=3)
    [problem] = findings(folder, "judge", rubrics=(REWARD_RUBRIC,))
    assert problem.endswith("it is a classifier with 3 labels; a reward model has one: use another model")
    with pytest.raises(InputError, match="with 3 labels"):
        judged(folder, ITEMS)
