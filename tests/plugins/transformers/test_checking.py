from __future__ import annotations

import ast
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hub_server import running_hub
from model_families import FAMILIES, write_family

from tutelage.errors import InputError
from tutelage.objectives import Dpo, Lora, Sft
from tutelage.plugin_info import Finding, RunNeeds
from tutelage.records import Model
from tutelage_transformers import checking
from tutelage_transformers.checking import check
from tutelage_transformers.devices.capacity import Capacity, capacity_of
from tutelage_transformers.models import trial
from tutelage_transformers.models.loading import LoadedModel, read
from tutelage_transformers.models.weights import WeightShapes, read_shapes
from tutelage_transformers.settings import TransformersSettings
from tutelage_transformers.training import fitting
from tutelage_transformers.training.arguments import LOSS_TYPES, OF_REWARD_DIFFERENCES


def findings_of(name: str, settings: TransformersSettings | None = None) -> dict[str, tuple[bool | None, str]]:
    return {finding.what: (finding.ok, finding.detail) for finding in check(settings, name)}


def test_libraries_device_weights_and_tokenizer_are_reported(base: Path) -> None:
    found = findings_of(str(base))
    assert list(found) == ["libraries", "GPU", "model", "tokenizer"]
    assert all(ok for ok, _ in found.values())
    assert "transformers" in found["libraries"][1]
    assert "processor threads" in found["GPU"][1] or "GiB" in found["GPU"][1]
    assert found["model"][1] == f"{base} is on this machine"
    assert found["tokenizer"][1] == "has an end token; the model sees 128 tokens at once"


def test_a_tokenizer_without_an_end_token_is_a_finding(make_base: Callable[..., Path]) -> None:
    folder = make_base()
    config = folder / "tokenizer_config.json"
    config.write_text(config.read_text().replace('"eos_token": "<|endoftext|>",', ""))
    ok, detail = findings_of(str(folder))["tokenizer"]
    assert not ok and "it has no end token" in detail


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ("", "its config.json cannot be read (Expecting value: line 1 column 1 (char 0)); copy it again"),
        ("[1]", "its config.json is no JSON object; copy it again"),
        ("{}", "it cannot be read: Unrecognized model in "),
        (
            '{"model_type": "gpt_neox", "hidden_size": "big"}',
            "it cannot be read: Validation error for field 'hidden_size': ",
        ),
    ],
    ids=["empty", "a list", "no type", "a text for a number"],
)
def test_a_configuration_that_cannot_be_read_is_one_problem_of_the_model(
    make_base: Callable[..., Path], config: str, problem: str
) -> None:
    folder = make_base()
    (folder / "config.json").write_text(config)
    [detail] = {found.detail for found in checking.check_run(None, str(folder), needs(Sft())) if not found.ok}
    assert detail.startswith(f"model {folder}: {problem}")


def test_a_folder_without_the_files_of_its_tokenizer_is_a_finding(make_base: Callable[..., Path]) -> None:
    """transformers makes a tokenizer without a vocabulary, and every prompt would have no tokens."""
    folder = make_base()
    for file in folder.glob("tokenizer*"):
        file.unlink()
    [found] = [found for found in checking.check_run(None, str(folder), needs(Sft())) if not found.ok]
    assert found.detail.startswith(f"tokenizer of {folder}: ")


def test_missing_weights_are_a_finding(tmp_path: Path) -> None:
    ok, detail = findings_of(str(tmp_path / "nothing"))["model"]
    assert not ok
    assert "there is no such folder" in detail


def test_weights_that_may_not_be_downloaded_are_a_finding() -> None:
    ok, detail = findings_of("nobody/nothing", TransformersSettings(local_files_only=True))["model"]
    assert not ok
    assert "local_files_only is set" in detail


# Before a run

GIB = 2**30
SHAPES = WeightShapes({"embed_tokens.weight": (1000, 10**6), "layer.weight": (1000, 10**6), "norm.weight": (10,)})
"""Two billion weights, half of them in a linear layer."""


def needs(*trainings: Sft | Dpo, **changes: Any) -> RunNeeds:
    hooks = frozenset({"train_step", "generate_candidates"})
    return RunNeeds(**{"hooks": hooks, "trainings": trainings, **changes})


def memory(settings: TransformersSettings, capacity: Capacity, *trainings: Sft | Dpo) -> list[str]:
    found = checking.memory_findings("big", SHAPES, settings, needs(*trainings), capacity)
    return [finding.detail for finding in found]


def test_a_model_without_problems_has_no_findings(base: Path, tmp_path: Path) -> None:
    assert list(checking.check_run(None, str(base), needs(Sft(), Dpo(), directory=tmp_path / "run"))) == []


def test_a_model_whose_hidden_states_exceed_float16_is_refused_before_the_run_and_when_it_is_read(
    tmp_path: Path,
) -> None:
    """M1 of Gemma 3 270M was trained for 39 s in float16; then its logits were NaN."""
    family = next(family for family in FAMILIES if family.model_type == "gemma3_text")
    folder, half = str(write_family(family, tmp_path / "gemma")), TransformersSettings(device="cpu", dtype="float16")
    [finding] = checking.check_run(half, folder, needs())
    problem = "its hidden states are too large for float16 (type 'gemma3_text'); set settings.dtype to float32"
    assert (finding.what, finding.detail) == ("dtype", f"model {folder}: {problem}")
    with pytest.raises(InputError, match=re.escape(problem)):
        read(Model("transformers", folder), half)
    assert list(checking.check_run(evolve(half, dtype="float32"), folder, needs())) == []


def test_an_attention_that_leaves_out_the_cap_of_a_models_scores_is_refused_before_the_run(tmp_path: Path) -> None:
    families = {family.model_type: family for family in FAMILIES}
    capped, other = (str(write_family(families[name], tmp_path / name)) for name in ("gemma2", "gemma3_text"))
    sdpa = TransformersSettings(device="cpu", attention="sdpa")
    [finding] = checking.check_run(sdpa, capped, needs())
    problem = "it caps its attention scores, which sdpa does not; leave settings.attention out"
    assert (finding.what, finding.detail) == ("attention", f"model {capped}: {problem}")
    assert list(checking.check_run(sdpa, other, needs())) == []
    config = Path(other, "config.json")
    config.write_text(config.read_text().replace('"gemma3_text"', '"unknown"'))
    for settings in (sdpa, evolve(sdpa, attention="auto")):
        assert ["cannot be read" in finding.detail for finding in checking.check_run(settings, other, needs())] == [
            True
        ]


def test_a_model_on_the_hub_is_not_checked_without_downloads() -> None:
    [finding] = checking.check_run(None, "nobody/nothing", needs(Sft(), download=False))
    assert (finding.what, finding.ok) == ("model", None)
    assert "model nobody/nothing: it is not on this machine" in finding.detail


@pytest.mark.parametrize(
    ("training", "gib"),
    [
        (None, 3.7),  # bfloat16
        (Sft(), 33.5),  # float32 weights, gradients and two moments, and the copies of autocast
        (Sft(lora=Lora(r=64)), 4.7),  # the adapter has 64 million weights
    ],
)
def test_the_memory_is_that_of_weights_and_optimizer(training: Sft | None, gib: float) -> None:
    trainings = [training] if training else []
    settings = TransformersSettings()
    assert memory(settings, Capacity(int((gib + 0.1) * GIB), "the GPU", True), *trainings) == []
    [detail] = memory(settings, Capacity(int((gib - 0.1) * GIB), "the GPU", True), *trainings)
    assert detail.startswith(f"model big: it needs at least {gib} GiB, and the GPU has {gib - 0.1:.1f} GiB; ")
    assert ("set lora" in detail) is (training == Sft())


def test_weights_in_four_bits_need_a_quarter_of_the_memory_in_training() -> None:
    settings = TransformersSettings(quantization="4bit", dtype="bfloat16")
    assert memory(settings, Capacity(4 * GIB, "the GPU", True), Sft(lora=Lora(r=8))) == []


def test_the_memory_on_a_processor_is_that_of_float32() -> None:
    [detail] = memory(TransformersSettings(), Capacity(7 * GIB, "this machine", False))
    assert detail.startswith("model big: it needs at least 7.5 GiB, and this machine has 7.0 GiB")
    assert memory(TransformersSettings(dtype="bfloat16"), Capacity(7 * GIB, "this machine", False)) == []


@pytest.mark.parametrize(
    ("settings", "trainings", "gib"),
    [
        (TransformersSettings(checkpoint_minutes=None), [Sft(), Dpo()], 2 * 3.73),
        (TransformersSettings(), [Sft(), Dpo()], 2 * 3.725 + 22.35),  # and one training checkpoint
        (TransformersSettings(), [Sft(lora=Lora(r=64))], 3.73 + 4 * 0.24),
        (TransformersSettings(dtype="float32", checkpoint_minutes=None), [Sft()], 7.45),
    ],
)
def test_the_disk_must_hold_every_checkpoint(
    settings: TransformersSettings, trainings: list[Sft | Dpo], gib: float, tmp_path: Path
) -> None:
    def found(free: float) -> list[Finding]:
        return list(checking.disk_findings(SHAPES, settings, needs(*trainings), tmp_path, int(free * GIB), True))

    assert found(gib + 0.1) == []
    [finding] = found(gib - 0.1)
    assert finding.detail.startswith(f"folder {tmp_path}: {len(trainings)} checkpoints need about {gib:.1f} GiB, and ")


@pytest.mark.parametrize("name", ["mixtral", "qwen3_moe"])
def test_dropout_that_adapters_of_experts_cannot_have_is_found_before_a_run(name: str, tmp_path: Path) -> None:
    """The default dropout ended the first training of such a model with an error of PEFT."""
    family = next(family for family in FAMILIES if family.model_type == name)
    folder = str(write_family(family, tmp_path))
    [found] = checking.check_run(None, folder, needs(Dpo(lora=Lora(dropout=0.05))))
    assert not found.ok and found.detail == (
        f"dpo.lora.dropout: PEFT adapts the experts of this model (type {name}) without dropout; set it to 0, or name "
        "the layers of its attention in lora.target_modules"
    )
    attention = Lora(dropout=0.05, target_modules=("q_proj", "v_proj"))
    assert list(checking.check_run(None, folder, needs(Dpo(lora=Lora(dropout=0.0)), Sft(lora=attention)))) == []


def test_an_adapter_may_have_dropout_if_peft_leaves_the_experts_out(tmp_path: Path) -> None:
    family = next(family for family in FAMILIES if family.model_type == "granitemoe")
    assert (
        list(checking.check_run(None, str(write_family(family, tmp_path)), needs(Dpo(lora=Lora(dropout=0.05))))) == []
    )


def test_the_shapes_in_the_headers_are_those_of_the_model(base: Path, loaded: LoadedModel) -> None:
    shapes = read_shapes(base)
    assert shapes.parameters == loaded.model.num_parameters()
    for lora in (Lora(r=4), Lora(r=4, target_modules=("q_proj", "fc1"))):
        assert shapes.adapter_size(lora) == fitting.adapter_size(loaded.model, lora) > 0


def test_the_shapes_of_a_model_in_shards_are_those_of_one_file(base: Path, tmp_path: Path) -> None:
    from transformers import PhiForCausalLM

    PhiForCausalLM.from_pretrained(base).save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert read_shapes(tmp_path).shapes == read_shapes(base).shapes


def test_the_memory_of_the_smallest_visible_gpu_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 24576\necho 8192\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert capacity_of(TransformersSettings()) == Capacity(8 * GIB, "the GPU", True, devices=2)
    assert capacity_of(TransformersSettings(device="cuda")) == Capacity(8 * GIB, "the GPU", True, devices=2)
    assert capacity_of(TransformersSettings(device="cuda:1")) == Capacity(8 * GIB, "the GPU", True, devices=1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    found = capacity_of(TransformersSettings())
    assert found is not None and found.name == "this machine" and found.total > GIB / 4
    assert capacity_of(TransformersSettings(device="cuda")) is None


# Objectives


@pytest.mark.parametrize(
    ("objective", "problem"),
    [
        (Dpo(loss_type="sigmiod"), "loss_type: 'sigmiod' is unknown; did you mean 'sigmoid'?"),
        (Dpo(loss_type={}), "loss_type: no loss is named; leave it out for sigmoid"),
        (Dpo(loss_type={"sft": math.inf}), "loss_type: the weight of 'sft' is inf; give one above 0, or leave the"),
        (Dpo(beta=0.0), "beta: 0.0; it must be a number above 0"),
        (Dpo(beta=math.nan), "beta: nan; it must be a number above 0"),
        (Sft(learning_rate=math.inf), "learning_rate: inf; it must be a number above 0"),
        (Sft(epochs=-1), "epochs: -1; it must be a number above 0"),
        (Sft(max_length=0), "max_length: 0; it must be at least 1"),
        (Sft(warmup_ratio=1.0), "warmup_ratio: 1.0; it is a share of the steps"),
        (Sft(micro_batch_size=3), "micro_batch_size: 3; the batch_size 16 must be a multiple"),
        (Sft(lora=Lora(r=0)), "lora.r: 0; it must be at least 1"),
        (Sft(lora=Lora(alpha=-1)), "lora.alpha: -1; it must be at least 1"),
        (Sft(lora=Lora(dropout=1.0)), "lora.dropout: 1.0; it is a probability"),
        (Sft(lora=Lora(target_modules=())), "lora.target_modules: (); name linear layers in a list, or use all-linear"),
        (Sft(lr_scheduler_type="cosin"), "lr_scheduler_type: 'cosin' is unknown; did you mean 'cosine'?"),  # type: ignore[arg-type]
        (Sft(weight_decay=-0.1), "weight_decay: -0.1; it must be a number of at least 0"),
        (Dpo(weight_decay=math.inf), "weight_decay: inf; it must be a number of at least 0"),
        (Sft(max_grad_norm=-1.0), "max_grad_norm: -1.0; it must be a number above 0, or 0 for no clipping"),
        (Dpo(loss_type="robust"), "label_smoothing: missing; the loss robust needs it; without it the loss is sigmoid"),
        (Dpo(loss_type={"exo_pair": 1.0}), "label_smoothing: missing; the loss exo_pair needs it: set it, for example"),
        (Dpo(loss_type="robust", label_smoothing=0.5), "label_smoothing: 0.5; it is a share of the pairs"),
        (Dpo(f_divergence_type="js"), "f_divergence_type: 'js' is unknown"),  # type: ignore[arg-type]
        (Dpo(loss_type="apo_zero", f_divergence_type="forward_kl"), "f_divergence_type: forward_kl; the loss apo_zero"),
        (Dpo(f_alpha_divergence_coef=1.5), "f_alpha_divergence_coef: 1.5; it must be from 0 to 1"),
        (Dpo(discopop_tau=0.0), "discopop_tau: 0.0; it must be a number above 0"),
        (Dpo(ld_alpha=-0.5), "ld_alpha: -0.5; it must be from 0 to 1"),
        (Dpo(loss_type="aot", use_weighting=True), "use_weighting: true; TRL cannot weight the pairs of the loss aot"),
        (
            Dpo(loss_type={"sigmoid": 1.0, "sft": 0.1}, use_weighting=True),
            "use_weighting: true; TRL cannot weight the pairs of the loss sft",
        ),
    ],
)
def test_a_problem_of_an_objective_begins_with_its_key(objective: Sft | Dpo, problem: str) -> None:
    [found] = checking.check_objective(None, objective)
    assert found.startswith(problem)


def test_an_objective_must_agree_with_the_settings() -> None:
    assert list(checking.check_objective(TransformersSettings(processes=3), Sft(batch_size=16))) == [
        "batch_size: 16; settings.processes 3 cannot share it equally: choose a multiple, or other processes"
    ]
    four_bits = TransformersSettings(quantization="4bit")
    assert [line.partition(":")[0] for line in checking.check_objective(four_bits, Dpo())] == ["lora"]
    assert list(checking.check_objective(four_bits, Dpo(lora=Lora()))) == []


@pytest.mark.parametrize(
    "objective",
    [
        Dpo(loss_type="robust", label_smoothing=0.1),
        Dpo(loss_type={"exo_pair": 1.0, "sft": 0.1}, label_smoothing=0.001, f_divergence_type="js_divergence"),
        Dpo(loss_type="discopop", discopop_tau=0.1, ld_alpha=0.0, use_weighting=True),
        Dpo(f_divergence_type="alpha_divergence", f_alpha_divergence_coef=1.0),
        Sft(lr_scheduler_type="constant_with_warmup", weight_decay=0.1, max_grad_norm=0.0),
        Sft(lora=Lora(target_modules=("q_proj", "fc1"))),
    ],
)
def test_valid_values_of_the_keys_of_an_objective_are_no_problem(objective: Sft | Dpo) -> None:
    assert list(checking.check_objective(None, objective)) == []


@pytest.mark.parametrize(
    ("names", "problems"),
    [
        (("q_proj", "mlp.fc1"), []),
        (("q_porj",), ["sft.lora.target_modules: 'q_porj' is no linear layer of the model; did you mean 'q_proj'?"]),
        (("proj",), ["sft.lora.target_modules: 'proj' is no linear layer"]),
        (("v_proj", "lm_head"), ["sft.lora.target_modules: 'lm_head' is no linear layer of the model; known: dense, "]),
        (
            ("embed_tokens",),
            ["sft.lora.target_modules: 'embed_tokens' is no linear layer of the model; known: dense, "],
        ),
    ],
)
def test_names_of_layers_that_the_model_lacks_are_found_before_the_run(
    names: tuple[str, ...], problems: list[str], base: Path
) -> None:
    run_needs = evolve(needs(Sft(lora=Lora(target_modules=names))), download=False)
    found = [one.detail for one in checking.check_run(None, str(base), run_needs) if one.what == "adapter"]
    assert len(found) == len(problems)
    assert all(one.startswith(problem) for one, problem in zip(found, problems, strict=True)), found


def test_the_known_losses_are_those_of_trl() -> None:
    """It keeps away a list that a new release of TRL has made incomplete or wrong."""
    from trl.trainer import dpo_trainer

    source = Path(dpo_trainer.__file__).read_text(encoding="utf-8")
    of_trl = set(re.findall(r'(?:el)?if loss_type == "(\w+)"', source))
    assert len(of_trl) > 10
    assert set(LOSS_TYPES) == of_trl
    of_differences = re.search(r"f_divergence_loss_types = (\{.*\})", source)
    assert of_differences is not None
    assert ast.literal_eval(of_differences[1]) == OF_REWARD_DIFFERENCES


# The hub

ASK = """
import sys
from tutelage.errors import TutelageError
from tutelage_transformers.models.finding import is_local
try:
    print(is_local(sys.argv[1], False))
except TutelageError as error:
    print(error)
"""


def test_a_model_of_the_hub_without_safetensors_is_refused_before_it_is_downloaded(tmp_path: Path) -> None:
    def answer(*files: str) -> str:
        with running_hub() as hub:
            hub.siblings = list(files)
            addressed = {"HF_ENDPOINT": hub.address, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path)}
            command = [sys.executable, "-c", ASK, "owner/name"]
            environment = {**os.environ, **addressed, "NO_PROXY": "127.0.0.1"}
            return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    assert answer("config.json", "model.safetensors") == "False\n"
    assert answer("config.json", "pytorch_model.bin") == (
        "model owner/name: the hub has it without safetensors; use a model, or a revision, that has them\n"
    )


def test_the_trial_depends_on_the_names_and_contents_of_the_small_files(tmp_path: Path) -> None:
    one, other = tmp_path / "a.json", tmp_path / "b.json"
    one.write_text("x")
    other.write_text("x")
    before = trial.fingerprint("model", tmp_path)["files"]
    assert list(before) == ["a.json", "b.json"]
    assert before["a.json"] == before["b.json"]
    one.write_text("y")
    assert trial.fingerprint("model", tmp_path)["files"]["a.json"] != before["a.json"]
