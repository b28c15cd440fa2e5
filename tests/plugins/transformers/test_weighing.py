"""Expected scores: the probabilities of the scores from one forward pass, in every engine and in several processes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from small_models import TOKENIZERS, fast_tokenizer

import tutelage_transformers
from tutelage.context import Context
from tutelage.errors import InputError, StageError
from tutelage.files.jsonl import write_rows
from tutelage.files.trl_format import supervised_row
from tutelage.objectives import Sft
from tutelage.plugin_info import RunNeeds
from tutelage.plugins.registry import Registry
from tutelage.plugins.stages import judge
from tutelage.preferences.expected_scores import score_replies
from tutelage.records import JudgeItem, Judgement, Model, Outcome, Rubric, Sampling
from tutelage_transformers import checking
from tutelage_transformers.generation import dispatch, memory
from tutelage_transformers.generation.engine import generate
from tutelage_transformers.generation.paged import attention, engine
from tutelage_transformers.generation.weighing import ReplyProbabilities, reply_probabilities
from tutelage_transformers.models.chat import encode, reply_tokens, user_prompt
from tutelage_transformers.models.loading import LoadedModel, read
from tutelage_transformers.processes.pool import end_all
from tutelage_transformers.settings import TransformersSettings
from tutelage_transformers.training.step import train

RUBRIC = Rubric("short", "score the words {prompt} {answer}", score_prefix="score: ")
REPLIES = score_replies(RUBRIC)
WORDS = ["sort", "the", "words", "apple", "pear", "plum", "cat", "dog", "cow", "red", "blue"]
ENGINES = ("padded", "paged")
ITEMS = [JudgeItem(f"item-{n}", "cat", f"apple{' please' * n}") for n in range(7)]


def prompts_of(loaded: LoadedModel, count: int) -> list[str]:
    choice = random.Random(0)
    texts = [" ".join(choice.choices(WORDS, k=choice.randint(1, 60))) for _ in range(count)]
    return [user_prompt(loaded.tokenizer, text) for text in texts]


def weighed(loaded: LoadedModel, prompts: list[str], which: str, batch: int | None = None) -> list[ReplyProbabilities]:
    """The probabilities of the replies, by prompt."""
    found = list(chain(*reply_probabilities(loaded, prompts, REPLIES, batch, which)))
    assert sorted(one.prompt for one in found) == list(range(len(prompts)))
    return sorted(found, key=lambda one: one.prompt)


def of_one_pass(loaded: LoadedModel, prompt: str) -> list[float]:
    """The probabilities by transformers alone: one prompt, no cache, no padding."""
    import torch

    begin, tokens = reply_tokens(loaded.tokenizer, REPLIES)
    [ids] = encode(loaded.tokenizer, [prompt])
    with torch.inference_mode():
        logits = loaded.model(input_ids=torch.tensor([[*ids, *begin]]), use_cache=False).logits[0, -1]
    return [float(one) for one in torch.softmax(logits, -1)[tokens]]


def judged(model: Model, items: list[JudgeItem] = ITEMS, rubric: Rubric = RUBRIC) -> dict[str, Judgement]:
    registry = Registry.empty()
    registry.register(tutelage_transformers, "transformers")
    return {one.item_id: one for one in judge(registry, model, items, rubric, 1, Sampling(), Context(), "expected")}


@pytest.fixture
def own(base: Path) -> LoadedModel:
    """The base model in memory, for one test alone: the paged engine changes its attention."""
    return read(Model("transformers", str(base)), TransformersSettings(device="cpu"))


@pytest.mark.parametrize("batch", [None, 1, 3])
@pytest.mark.parametrize("which", ENGINES)
def test_the_probabilities_are_those_of_a_plain_forward_pass(own: LoadedModel, which: str, batch: int | None) -> None:
    prompts = prompts_of(own, 12)
    wanted = [of_one_pass(own, prompt) for prompt in prompts]
    found = weighed(own, prompts, which, batch)
    assert all(one.fits and one.is_finite for one in found)
    for one, probabilities in zip(found, wanted, strict=True):
        assert one.probabilities == pytest.approx(probabilities, rel=1e-4, abs=1e-7)


def test_grouped_heads_give_the_same_probabilities_in_both_engines(
    own: LoadedModel, make_grouped: Callable[[], Any]
) -> None:
    prompts = prompts_of(own, 9)
    padded, paged = (weighed(LoadedModel(make_grouped(), own.tokenizer), prompts, which) for which in ENGINES)
    for one, other in zip(padded, paged, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("blocks", [10, 25])
def test_few_blocks_give_the_same_probabilities(own: LoadedModel, monkeypatch: pytest.MonkeyPatch, blocks: int) -> None:
    prompts = prompts_of(own, 10)
    padded = weighed(own, prompts, "padded")
    few = blocks * attention.BLOCK_SIZE * memory.bytes_per_token(own.model)
    monkeypatch.setattr(engine, "bytes_for_blocks", lambda model: few)
    for one, other in zip(weighed(own, prompts, "paged"), padded, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, rel=1e-4, abs=1e-7)


def test_judgements_and_completions_use_one_paged_decoder_and_free_its_blocks(own: LoadedModel) -> None:
    prompts, greedy = prompts_of(own, 6), Sampling(temperature=0.0, max_new_tokens=8)

    def completed(which: str) -> list[str]:
        found = chain(*generate(own, prompts, 1, greedy, None, which))
        return [one.text for one in sorted(found, key=lambda one: one.prompt)]

    wanted = completed("padded")
    assert completed("paged") == wanted
    kept = engine._kept[own]
    free = kept.pool.free
    stream = reply_probabilities(own, prompts, REPLIES, 2, "paged")
    next(stream)
    assert kept.pool.free < free, "the common prefix is kept for the next batch"
    stream.close()  # type: ignore[attr-defined]
    assert (engine._kept[own], kept.pool.free) == (kept, free)
    weighed(own, prompts, "paged", 2)
    assert kept.pool.free == free
    assert completed("paged") == wanted


def test_a_prompt_that_fills_the_context_has_no_score(base: Path) -> None:
    items = [ITEMS[0], JudgeItem("long", "cat", " ".join(["apple"] * 130))]
    found = judged(Model("transformers", str(base)), items)
    assert found["long"].outcome is Outcome.FAILED
    assert "leaves no room" in found["long"].detail
    assert found["item-0"].outcome is not Outcome.FAILED


def test_a_student_that_learned_to_score_has_the_score_that_it_would_write(
    base: Path, tmp_path: Path, other_base: Path
) -> None:
    rows = [supervised_row(f"score the words {a} {b}", "score: 4") for a in ("cat", "dog") for b in ("apple", "pear")]
    write_rows(tmp_path / "examples.jsonl", rows)
    (tmp_path / "M1").mkdir()
    objective = Sft(epochs=20, learning_rate=1e-2, batch_size=4, warmup_ratio=0.0)
    model = Model("transformers", str(base))
    trained = train(model, None, objective, tmp_path / "examples.jsonl", tmp_path / "M1", Context())
    one = judged(trained, [JudgeItem("one", "cat", "apple")])["one"]
    assert one.outcome is Outcome.ANSWERED
    assert one.score == pytest.approx(4.0, abs=0.05)
    assert len(one.probabilities) == 6 and one.probabilities[4] == max(one.probabilities) > 0.9


def test_a_model_that_would_not_write_a_score_gets_none(base: Path) -> None:
    found = judged(Model("transformers", str(base))).values()
    unparsed = [one for one in found if one.outcome is Outcome.UNPARSED]
    assert unparsed
    assert all(one.score is None and sum(one.probabilities) < 0.5 for one in unparsed)


def test_logits_that_are_nan_are_an_error_and_no_score(base: Path, tmp_path: Path) -> None:
    import torch

    loaded = read(Model("transformers", str(base)), TransformersSettings(device="cpu"))
    token = loaded.tokenizer.convert_tokens_to_ids("please")
    with torch.no_grad():
        loaded.model.get_input_embeddings().weight[token] = 1e38
    loaded.model.save_pretrained(tmp_path / "poisoned")
    loaded.tokenizer.save_pretrained(tmp_path / "poisoned")
    with pytest.raises(
        StageError, match=r"its logits are NaN or infinite at the score of item-\d, so there is no answer"
    ):
        judged(Model("transformers", str(tmp_path / "poisoned"), {"device": "cpu"}))


@pytest.fixture
def released() -> Iterator[None]:
    end_all()
    yield
    dispatch.release_all()
    end_all()


@pytest.mark.slow
@pytest.mark.usefixtures("released")
def test_two_processes_give_the_scores_of_one(base: Path) -> None:
    one, two = (judged(Model("transformers", str(base), {"device": "cpu", "processes": n})) for n in (1, 2))
    assert set(one) == {item.id for item in ITEMS}
    for item_id, judgement in one.items():
        assert two[item_id].probabilities == pytest.approx(judgement.probabilities, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_the_score_is_the_last_token_of_real_kinds_of_tokenizers(kind: str) -> None:
    tokenizer = fast_tokenizer(TOKENIZERS[kind]())
    begin, tokens = reply_tokens(tokenizer, REPLIES)
    assert len(set(tokens)) == 6
    assert [tokenizer.decode([*begin, token]).strip() for token in tokens] == list(REPLIES)


def findings(model: Path, rubric: Rubric) -> list[str]:
    needs = RunNeeds(hooks=frozenset({"judge"}), expected_scores=(rubric,), download=False)
    found = checking.check_run(TransformersSettings(device="cpu"), str(model), needs)
    return [one.detail for one in found if one.ok is False]


def test_scores_that_are_not_one_token_each_are_found_before_the_run(base: Path) -> None:
    assert findings(base, RUBRIC) == []
    [problem] = findings(base, Rubric("ten", RUBRIC.template, 0, 10, score_prefix="score: "))
    assert "the reply 'score: 0' does not end with one token of its own" in problem
    with pytest.raises(InputError, match="does not end with one token of its own"):
        judged(Model("transformers", str(base)), rubric=Rubric("ten", RUBRIC.template, 0, 10, score_prefix="score: "))


def test_a_template_that_opens_a_thinking_block_is_found_before_the_run(make_base: Callable[..., Path]) -> None:
    template = (
        "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}"
        "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|><think>' }}{% endif %}"
    )
    thinking = make_base(template=template)
    assert any("its chat template opens a thinking block (<think>)" in one for one in findings(thinking, RUBRIC))
    with pytest.raises(InputError, match="opens a thinking block"):
        judged(Model("transformers", str(thinking), {"device": "cpu"}))
