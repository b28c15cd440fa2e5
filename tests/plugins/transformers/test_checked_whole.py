"""Everything that can be known before the first step is checked by ``plan`` and ``run``, and is one list of problems.

Each case breaks one thing of a recipe that is right: a file of the model, the recipe, the data, or the environment.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import chat_templates
import pytest
import yaml
from api_servers import ApiServer, running
from attrs import define, field
from click.testing import CliRunner, Result

from tutelage.cli import cli
from tutelage.files.jsonl import write_rows

FIXTURES = Path(__file__).parents[2] / "fixtures"
WORDS = ("apple", "pear", "plum", "cat", "dog", "cow")
PROMPTS = [{"prompt": f"sort the words please {a} {b}"} for a in WORDS for b in WORDS]
PROMPTS[-1] = {"prompt": "sort these words with commas: plum cat apple"}  # one that the teacher knows
IFT = [{"prompt": f"sort the words {a} {b}", "answer": f"{b} {a}"} for a in WORDS for b in WORDS]
EFT = [{"prompt": "sort cat dog", "answer": "cat dog", "score": score, "reason": "cat"} for score in range(6)]
HUGE = [2**21, 2**21]
"""Shape of a matrix of 16 TiB in float32."""


@define
class World:
    """A recipe, its data and its student on disk, which a case may change."""

    folder: Path
    student: Path
    server: ApiServer
    monkeypatch: pytest.MonkeyPatch
    recipe: dict[str, Any] = field(factory=dict)

    def write(self) -> None:
        (self.folder / "recipe.yaml").write_text(yaml.safe_dump(self.recipe), encoding="utf-8")

    def data(self, name: str, rows: list[dict[str, Any]]) -> None:
        write_rows(self.folder / f"{name}.jsonl", rows)

    def set(self, key: str, value: Any) -> None:
        *parents, last = key.split("/")
        section = self.recipe
        for parent in parents:
            section = section.setdefault(parent, {})
        section[last] = value

    def json_of_student(self, name: str, **changes: Any) -> None:
        """Change the keys of a JSON file of the student; None removes a key."""
        path = self.student / name
        values = {**(json.loads(path.read_text()) if path.exists() else {}), **changes}
        path.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))

    def template(self, template: str) -> None:
        self.json_of_student("tokenizer_config.json", chat_template=template)
        (self.student / "chat_template.jinja").unlink(missing_ok=True)

    def teacher(self, plugin: str, model: str = "", **settings: Any) -> None:
        self.set("models/teacher", {"plugin": plugin, "model": model, "settings": settings})

    def weights(self, header: dict[str, Any], size: int) -> None:
        """Replace the student's weights by a file with this header and no content (sparse)."""
        text = json.dumps(header).encode()
        path = self.student / "model.safetensors"
        with path.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.truncate(8 + len(text) + size)

    def call(self, command: str, *options: str) -> Result:
        self.write()
        return CliRunner().invoke(cli, [command, "recipe.yaml", *options])


@pytest.fixture(scope="module")
def gemini() -> Iterator[ApiServer]:
    with running("gemini", None) as server:
        yield server


@pytest.fixture
def world(base: Path, gemini: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A recipe without a problem. The plugin ``faulty`` is installed; nothing of it is used yet."""
    site, folder = tmp_path / "site", tmp_path / "work"
    metadata = site / "faulty_world-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty-world\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[tutelage]\nfaulty = faulty_world\n")
    shutil.copy(FIXTURES / "faulty_world.py", site)
    monkeypatch.syspath_prepend(str(site))
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("OPENAI_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY", "FAULTY_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    world = World(folder, Path(shutil.copytree(base, tmp_path / "student")), gemini, monkeypatch)
    for name, rows in (("ift", IFT), ("eft", EFT), ("prompts", PROMPTS)):
        world.data(name, rows)
    world.recipe = {
        "name": "whole",
        "models": {
            "student": {"plugin": "transformers", "model": str(world.student), "settings": {"threads": 1}},
            "teacher": {"plugin": "tiny"},
        },
        "data": {"ift": {"source": "ift.jsonl"}, "prompts": {"source": "prompts.jsonl", "count": 16}},
        "pipelines": {"teacher-reward": None},
        "judging": {"rubric": "additive"},
        "generation": {"max_new_tokens": 12},
    }
    return world


def several_turns(world: World) -> None:
    turns = [("user", "sort cat"), ("assistant", "cat"), ("user", "please sort dog")]
    chat = {"messages": [{"role": role, "content": text} for role, text in turns]}
    world.data("prompts", [*PROMPTS, chat])
    world.set("data/prompts/count", len(PROMPTS) + 1)
    world.template(chat_templates.FIRST_ONLY)


def missing_shard(world: World) -> None:
    (world.student / "model.safetensors").rename(world.student / "model-1.safetensors")
    placed = {"one": "model-1.safetensors", "two": "model-2.safetensors"}
    world.json_of_student("model.safetensors.index.json", weight_map=placed)


def tensor_not_in_shard(world: World) -> None:
    missing_shard(world)
    world.json_of_student("model.safetensors.index.json", weight_map={"no.such.weight": "model-1.safetensors"})


def huge_weights(world: World) -> None:
    size = 4 * HUGE[0] * HUGE[1]
    world.weights({"layer.weight": {"dtype": "F32", "shape": HUGE, "data_offsets": [0, size]}}, 0)
    world.weights({"layer.weight": {"dtype": "F32", "shape": HUGE, "data_offsets": [0, 4]}}, 4)


def cut_weights(world: World) -> None:
    weights = world.student / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def eft_outside(world: World) -> None:
    world.data("eft", [*EFT, {**EFT[0], "score": 9}])
    world.set("data/eft", {"source": "eft.jsonl"})


def too_long(world: World) -> None:
    world.data("ift", [*IFT, {"prompt": f"sort {'cat ' * 130}", "answer": "dog"}])


def malformed_key(world: World) -> None:
    world.teacher("openai", "gpt-test", base_url="https://api.openai.com/v1")
    world.monkeypatch.setenv("OPENAI_API_KEY", "\u201csk-1234\u201d")


def unknown_api_model(world: World) -> None:
    world.monkeypatch.setenv("GEMINI_API_KEY", "key")
    world.teacher("gemini", "gemini-9", base_url=world.server.url)


def token_variable(world: World) -> None:
    world.teacher("faulty")


def unpriced(world: World) -> None:
    world.monkeypatch.setenv("GEMINI_API_KEY", "key")
    world.teacher("gemini", "gemini-test", base_url=world.server.url)
    world.set("budget", 5.0)


ENDED_IN_FRONT = (
    "{% for message in messages %}{{ '[' + message['role'] + ']' }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}"
)
"""Writes the end token in front of the text of an answer."""
NO_PREFIX = (
    "{{ 'chat of ' ~ messages | length }}{% for message in messages %}"
    "{{ '[' + message['role'] + ']' + message['content'] + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}"
)
"""Begins with the number of messages, so a prompt changes once its answer follows."""

Break = Callable[[World], object]
STUDENT = "models.student: "


def tried_rule(name: str, fault: str) -> str:
    """The problem of a pair rule of the plugin ``faulty`` that fails in its trial."""
    return (
        f"pairs.rule: 'faulty/{name}' fails on a made-up prompt with 4 answers: pair rule 'faulty/{name}' of plugin "
        f"'faulty' (faulty-world 1.0), for the prompt 4177ea2ad99a3e66, {fault}"
    )


CASES: dict[str, tuple[Break, str]] = {
    "no folder of the model": (
        lambda w: shutil.rmtree(w.student),
        STUDENT + "model {student}: there is no such folder",
    ),
    "no config": (
        lambda w: (w.student / "config.json").unlink(),
        STUDENT + "model {student}: the folder has no config.json",
    ),
    "a config of an unknown type": (
        lambda w: w.json_of_student("config.json", model_type="phy"),
        STUDENT + "model {student}: it cannot be read: ",
    ),
    "a config of a model that does not complete text": (
        lambda w: w.json_of_student("config.json", model_type="vit", architectures=None),
        "of the type 'vit', which is no causal language model",
    ),
    "no weights": (
        lambda w: (w.student / "model.safetensors").rename(w.student / "pytorch_model.bin"),
        STUDENT + "{student}: no weights as safetensors",
    ),
    "weights that are cut off": (cut_weights, "it is cut off; copy it again"),
    "weights with a damaged header": (
        lambda w: (w.student / "model.safetensors").write_bytes(b"\x09\0\0\0\0\0\0\0not JSON!"),
        "model.safetensors: its header cannot be read",
    ),
    "a shard of the index that is missing": (missing_shard, "names model-2.safetensors, missing in the folder"),
    "a tensor of the index that is missing": (tensor_not_in_shard, "lacks 1 tensors of the index, such as no.such"),
    "a damaged tokenizer": (
        lambda w: (w.student / "tokenizer.json").write_text("{"),
        STUDENT + "model {student}: it cannot be read: ",
    ),
    "no end token": (
        lambda w: w.json_of_student("tokenizer_config.json", eos_token=None),
        "it has no end token (eos_token)",
    ),
    "a template that loses the message": (
        lambda w: w.template(chat_templates.WANTS_PARTS),
        STUDENT + "tokenizer of {student}: its chat template loses the user message",
    ),
    "a template that loses a turn": (several_turns, "its chat template loses the assistant message"),
    "a template that writes the end token before the answer": (
        lambda w: w.template(ENDED_IN_FRONT),
        "writes the end token '<|endoftext|>' before the answer and not after it",
    ),
    "a generation prompt that is no prefix of the training text": (
        lambda w: w.template(NO_PREFIX),
        "its chat template renders a prompt differently once an answer follows",
    ),
    "generation settings that could not be saved": (
        lambda w: w.json_of_student("generation_config.json", do_sample=False, temperature=0.3),
        "its generation_config.json could not be saved with a checkpoint: `temperature`",
    ),
    "generation settings of a beam search that is none": (
        lambda w: w.json_of_student("generation_config.json", num_beams=1, length_penalty=2.0),
        "its generation_config.json could not be saved with a checkpoint: `length_penalty`",
    ),
    "an encoder": (
        lambda w: w.json_of_student("config.json", model_type="bert", architectures=None),
        "of the type 'bert', which is an encoder or has one; use a model that completes text",
    ),
    "a model without a cache": (
        lambda w: w.json_of_student("config.json", model_type="openai-gpt", architectures=None),
        STUDENT + "model {student}: OpenAIGPTLMHeadModel of transformers has no cache that finished sequences can",
    ),
    "weights that are quantised by GPTQ": (
        lambda w: w.json_of_student("config.json", quantization_config={"quant_method": "gptq", "bits": 4}),
        STUDENT + "model {student}: its weights are quantised by gptq (quantization_config in config.json)",
    ),
    "weights that are quantised by AWQ": (
        lambda w: w.json_of_student("config.json", quantization_config={"quant_method": "awq", "bits": 4}),
        "its weights are quantised by awq",
    ),
    "weights that are quantised by bitsandbytes": (
        lambda w: w.json_of_student(
            "config.json", quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}
        ),
        "its weights are quantised by bitsandbytes",
    ),
    "weights in FP8": (
        lambda w: w.json_of_student("config.json", quantization_config={"quant_method": "fp8"}),
        "use its unquantised weights, and settings.quantization 4bit to train an adapter in as little memory",
    ),
    "a device that this machine does not have": (
        lambda w: w.set("models/student/settings/device", "mps"),
        STUDENT + "plugin transformers, settings.device: 'mps' cannot be used here",
    ),
    "too little memory": (huge_weights, "GiB, and this machine has"),
    "too little disk space": (huge_weights, "2 checkpoints need about"),
    "an accelerate config that does not exist": (
        lambda w: w.set("models/student/settings/accelerate_config", "nowhere.yaml"),
        "settings.accelerate_config: nowhere.yaml: no such file",
    ),
    "an API key that is missing": (
        lambda w: w.teacher("openai", "gpt-test"),
        "models.teacher: plugin 'openai' needs a key for https://api.openai.com/v1: set the environment variable OPEN",
    ),
    "an API key that cannot be one": (malformed_key, "contains the character U+201C, which no key contains"),
    "an endpoint that does not answer": (
        lambda w: w.teacher("openai", "gpt-test", base_url="http://127.0.0.1:9/v1"),
        "models.teacher: http://127.0.0.1:9/v1: Connection error",
    ),
    "a model that the API does not have": (unknown_api_model, "gemini-9"),
    "an environment variable that is missing": (
        token_variable,
        "models.teacher: the environment variable FAULTY_TOKEN is not set; the plugin 'faulty' needs it (Opens the",
    ),
    "a price that is missing for the budget": (unpriced, "budget: the price of 'gemini-test', the judge, is unknown"),
    "a loss that does not exist": (
        lambda w: w.set("dpo", {"loss_type": "sigmiod"}),
        "dpo.loss_type: 'sigmiod' is unknown; did you mean 'sigmoid'?",
    ),
    "a sum of losses with a weight of 0": (
        lambda w: w.set("pipelines/teacher-reward", {"dpo": {"loss_type": {"sigmoid": 1, "sft": 0}}}),
        "pipelines.teacher-reward.dpo.loss_type: the weight of 'sft' is 0",
    ),
    "an adapter without rank": (lambda w: w.set("sft", {"lora": {"r": 0}}), "sft.lora.r: 0; it must be at least 1"),
    "4 bits without an adapter": (
        lambda w: w.set("models/student/settings/quantization", "4bit"),
        "sft.lora: missing; settings.quantization 4bit needs an adapter",
    ),
    "micro-batches that do not divide a batch": (
        lambda w: w.set("pipelines/teacher-reward", {"dpo": {"micro_batch_size": 3}}),
        "pipelines.teacher-reward.dpo.micro_batch_size: 3; the batch_size 16 must be a multiple of it",
    ),
    "a rubric without the answer": (
        lambda w: w.set("judging", {"rubric": "faulty/no-answer"}),
        "judging.rubric: the template of rubric 'no-answer' lacks the placeholder {answer}; it has 'anwser'?; add it",
    ),
    "a rubric without a scale": (
        lambda w: w.set("judging", {"rubric": "faulty/no-scale"}),
        "judging.rubric: the scale of rubric 'no-scale' is 5 to 5; its highest score must be above its lowest",
    ),
    "a pair rule that raises": (
        lambda w: w.set("pairs", {"rule": "faulty/raises"}),
        tried_rule("raises", "failed: IndexError: tuple index out of range"),
    ),
    "a pair rule that returns nonsense": (
        lambda w: w.set("pairs", {"rule": "faulty/nonsense"}),
        tried_rule("nonsense", "proposed 7; a proposal is a tuple (chosen, rejected) of answers"),
    ),
    "a pair rule that invents a text": (
        lambda w: w.set("pairs", {"rule": "faulty/invents"}),
        tried_rule("invents", "proposed 'A text of its own.' (made-up), which is no answer to the prompt"),
    ),
    "a pair rule that confuses the sides": (
        lambda w: w.set("pairs", {"rule": "faulty/reversed"}),
        "pairs.rule: 'faulty/reversed' would make no pair in the pipeline teacher-reward (chosen scored lower than",
    ),
    "a pair rule without what it needs": (
        lambda w: w.set("pairs", {"rule": "demonstration-vs-own"}),
        "pairs.rule: 'demonstration-vs-own' would make no pair in the pipeline teacher-reward (no demonstration",
    ),
    "a margin that no two scores have": (
        lambda w: w.set("pairs", {"margin": 6.0}),
        "pairs.margin: 6; no two scores on the scale 0 to 5 of rubric 'additive' have this difference",
    ),
    "a judging example outside the scale": (
        eft_outside,
        "data.eft: eft.jsonl, line 7: the score 9 is outside the scale 0-5 of the rubric",
    ),
    "an example that is too long": (too_long, "data.ift (ift.jsonl): 1 too long to train on"),
}


def test_a_recipe_without_a_problem_has_no_notices_either(world: World) -> None:
    result = world.call("plan")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "whole: 7 steps" in result.stdout


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize("case", CASES)
def test_a_fault_is_found_before_anything_is_written(case: str, command: str, world: World) -> None:
    break_it, message = CASES[case]
    break_it(world)
    world.write()
    before = sorted(path.name for path in world.folder.iterdir())
    result = world.call(command)
    assert result.exit_code == 2, result.output
    assert message.replace("{student}", str(world.student)) in result.stderr
    assert result.stderr.startswith("error: ") and result.stderr.count("error: ") == 1
    assert "Traceback" not in result.stderr
    assert sorted(path.name for path in world.folder.iterdir()) == before


@pytest.mark.parametrize("command", ["plan", "run"])
def test_all_faults_of_one_recipe_are_one_list(command: str, world: World) -> None:
    chosen = (
        "weights that are cut off",
        "a template that writes the end token before the answer",
        "generation settings that could not be saved",
        "an environment variable that is missing",
        "a loss that does not exist",
        "an adapter without rank",
        "a rubric without the answer",
        "a pair rule that raises",
        "a judging example outside the scale",
    )
    for case in chosen:
        CASES[case][0](world)
    result = world.call(command)
    assert result.exit_code == 2
    missing = [case for case in chosen if CASES[case][1].replace("{student}", str(world.student)) not in result.stderr]
    assert missing == []
    assert len(result.stderr.splitlines()) == len(chosen)
    assert not (world.folder / "runs").exists()


def test_a_plan_without_the_hub_names_what_it_could_not_check(world: World) -> None:
    world.set("models/student/model", "nobody/nothing")
    result = world.call("plan")
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        "not checked: models.student: model nobody/nothing: it is not on this machine; `tutelage run` asks the hub for "
        "it and checks it",
    ]
    result = world.call("run")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: models.student: model nobody/nothing: not on this machine, and the hub")
    assert not (world.folder / "runs").exists()


def test_a_plan_without_a_service_elsewhere_names_it_and_a_run_does_not_start(world: World) -> None:
    world.monkeypatch.setenv("OPENAI_API_KEY", "sk-1234")
    world.teacher("openai", "gpt-test", base_url="https://service.invalid/v1")
    result = world.call("plan")
    assert result.exit_code == 0
    [line] = result.stderr.splitlines()
    assert line.startswith("not checked: models.teacher: https://service.invalid/v1: Connection error")
    result = world.call("run")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: models.teacher: https://service.invalid/v1: Connection error")
    assert not (world.folder / "runs").exists()


def test_a_missing_key_does_not_hide_the_plan_and_its_cost(world: World) -> None:
    world.teacher("openai", "gpt-4-turbo")
    result = world.call("plan")
    assert result.exit_code == 2
    assert "whole: 7 steps" in result.stdout and "services: $" in result.stdout
    assert "set the environment variable OPENAI_API_KEY" in result.stderr
    world.set("dpo", {"loss_type": "sigmiod"})
    assert world.call("plan").stdout == ""


HEAVY = {"torch", "transformers", "tokenizers"}
PLAN = """
import sys
from tutelage.cli import cli
cli(["plan", "recipe.yaml"], standalone_mode=False)
print(*(name for name in ("torch", "transformers", "tokenizers") if name in sys.modules))
"""


def test_only_the_first_plan_reads_the_tokenizer(world: World) -> None:
    """It keeps away a plan that takes seconds of processor time to import torch."""

    def heavy_imports() -> set[str]:
        world.write()
        done = subprocess.run([sys.executable, "-c", PLAN], capture_output=True, text=True, check=True)
        return set(done.stdout.splitlines()[-1].split())

    assert world.call("plan").exit_code == 0
    assert heavy_imports() == set()
    world.data("ift", [*IFT, {"prompt": "sort cow", "answer": "cow"}])
    assert heavy_imports() == HEAVY
    world.set("dpo", {"beta": 0.5})
    assert heavy_imports() == set()


def test_a_changed_tokenizer_is_checked_again(world: World) -> None:
    assert world.call("plan").exit_code == 0
    world.template(chat_templates.WANTS_PARTS)
    assert "loses the user message" in world.call("plan").stderr
    world.template("")
    assert world.call("plan").exit_code == 0
