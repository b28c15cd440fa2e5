"""The plugin ``openai`` with a real OpenAI-compatible server: ``transformers serve`` with a small random Phi.

By default, ``test_api_pipelines`` alone starts this server: whole runs call it, and their checks before work do.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers_server import serving

import tutelage_openai as plugin
from tutelage.context import Context
from tutelage.preferences.judging import ADDITIVE_RUBRIC
from tutelage.records import JudgeItem, Model, Outcome, Prompt, Sampling
from tutelage.services.requests import Limits
from tutelage_openai.settings import OpenAiSettings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Model, Context]]:
    """The served model, and the context with the server's address."""
    folder = write_student(tmp_path_factory.mktemp("served"))
    with serving(folder, folder / "server.log") as url:
        settings = OpenAiSettings(base_url=url, limits=Limits(in_flight=2, attempts=2))
        yield Model("openai", str(folder)), Context(settings=settings)


def write_student(folder: Path) -> Path:
    """Write a random Phi of a few thousand parameters with a minimal chat template."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PhiConfig, PhiForCausalLM, PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate(["<|end|>", "<|unk|>", *map(str, range(30))])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<|unk|>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<|end|>", unk_token="<|unk|>")
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    PhiForCausalLM(PhiConfig(vocab_size=32, bos_token_id=0, eos_token_id=0, **shape)).save_pretrained(folder)
    return folder


def test_it_demonstrates_and_cuts_at_the_length_limit(served: tuple[Model, Context]) -> None:
    prompts = [Prompt(f"{number} 2 3") for number in range(3)]
    model, context = served
    shown = list(plugin.demonstrate(model, iter(prompts), Sampling(max_new_tokens=8), context))
    assert {demonstration.prompt_id for demonstration in shown} == {prompt.id for prompt in prompts}
    for demonstration in shown:
        assert demonstration.outcome in (Outcome.ANSWERED, Outcome.CUT)
        assert 0 < len(demonstration.text.split()) <= 8


def test_a_judge_that_does_not_know_the_form_is_unparsed_and_never_a_number(served: tuple[Model, Context]) -> None:
    model, context = served
    item = JudgeItem("1", "Sort 3 1 2.", "1 2 3")
    (judgement,) = plugin.judge(model, iter([item]), ADDITIVE_RUBRIC, 1, Sampling(max_new_tokens=8), context)
    assert judgement.score is None
    assert judgement.outcome in (Outcome.UNPARSED, Outcome.CUT)
    assert judgement.raw


def test_the_doctor_finds_the_server(served: tuple[Model, Context]) -> None:
    model, context = served
    findings = list(plugin.check(context.settings, model.name))
    assert findings
    assert all(finding.ok for finding in findings)


def test_another_model_than_the_served_one_fails_with_the_servers_words(served: tuple[Model, Context]) -> None:
    _, context = served
    (shown,) = plugin.demonstrate(Model("openai", "any"), iter([Prompt("1 2")]), Sampling(), context)
    assert shown.outcome is Outcome.FAILED
    assert "requested 'any'" in shown.detail
