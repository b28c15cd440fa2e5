"""The names of transformers, TRL, PEFT, torch and accelerate that the plugin relies on exist in the installed versions.

A library may change its private names in any release. These tests name what an upgrade has changed or removed, and they
keep the lists below complete: a private name that the plugin uses and that is in no list fails the first test.
"""

from __future__ import annotations

import ast
import inspect
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import tutelage_transformers

ROOT = Path(__file__).parents[3]
PLUGIN = Path(tutelage_transformers.__file__).parent
OPTIONAL = {"triton", "bitsandbytes", "trackio"}
"""Packages that may be missing here: they need a GPU, or are trackers."""


def of_class(path: str) -> Callable[[str], bool]:
    """The name is an attribute of a class, or of one of its bases."""
    return lambda name: hasattr(resolve(path), name)


def of_classes(*paths: str) -> Callable[[str], bool]:
    """The name is an attribute of each of these classes."""
    return lambda name: all(hasattr(resolve(path), name) for path in paths)


def set_by_init(*paths: str) -> Callable[[str], bool]:
    """The name is an attribute that the constructors of these classes set."""
    return lambda name: all(f"self.{name} = " in inspect.getsource(resolve(path).__init__) for path in paths)


def of_module(name: str) -> bool:
    """The name is an attribute of every module of torch: the dictionary of the modules in it."""
    layer = resolve("torch.nn:Linear")(1, 1)
    return bool(getattr(resolve("torch.nn:ModuleDict")({"layer": layer}), name) == {"layer": layer})


def resolve(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


TRAINER = "transformers.trainer:Trainer"
CONFIG = "transformers.configuration_utils:PreTrainedConfig"
ARGUMENTS = "transformers.training_args:TrainingArguments"
DPO = "trl.trainer.dpo_trainer:DPOTrainer"
KTO = "trl.trainer.kto_trainer:KTOTrainer"
SFT = "trl.trainer.sft_trainer:SFTTrainer"
INTEGRATIONS = "transformers.integrations.integration_utils"
NAMES: dict[str, Callable[[str], bool]] = {
    "_SummaryWriter": set_by_init(f"{INTEGRATIONS}:TensorBoardCallback"),
    "_attn_implementation": of_class(CONFIG),
    "_compute_loss": of_classes(DPO, KTO),
    "_experts_implementation": of_class(CONFIG),
    "_cuda_endAllocateToPool": lambda name: hasattr(import_module("torch.cuda.memory"), name),
    "_cuda_releasePool": lambda name: hasattr(import_module("torch.cuda.memory"), name),
    "_exit": lambda name: hasattr(import_module("os"), name),
    "_from_model_config": lambda name: hasattr(
        resolve("transformers.generation.configuration_utils:GenerationConfig")(), name
    ),
    "_get_train_sampler": of_class(TRAINER),
    "_load_from_checkpoint": of_class(TRAINER),
    "_metrics": set_by_init(DPO, KTO, SFT),
    "_modules": of_module,
    "_n_gpu": lambda name: f"self.{name} = " in inspect.getsource(resolve(ARGUMENTS)),
    "_name_or_path": lambda name: f"self.{name} = " in inspect.getsource(resolve(CONFIG)),
    "_precompute_ref_logps": of_classes(DPO, KTO),
    "_prepare_dataset": of_classes(DPO, KTO),
    "_prepare_inputs": of_class(TRAINER),
    "_remove_unused_columns": of_class(TRAINER),
    "_reset_state": lambda name: all(
        hasattr(resolve(f"accelerate.state:{kind}"), name) for kind in ("AcceleratorState", "GradientState")
    ),
    "_save_checkpoint": of_class(TRAINER),
    "_send_telemetry": of_class(DPO),
    "_set_signature_columns_if_needed": of_class(DPO),
    "_supports_attention_backend": of_class("transformers.modeling_utils:PreTrainedModel"),
    "_supports_default_dynamic_cache": of_class("transformers.generation.utils:GenerationMixin"),
    "_total_train_tokens": set_by_init(DPO, KTO, SFT),
    "_wandb": lambda name: f"self.{name} = " in inspect.getsource(resolve(f"{INTEGRATIONS}:WandbCallback")),
}
"""The private names of libraries in the plugin's code, each with the check that it exists."""
SIGNATURES = {
    (DPO, "_compute_loss"): ["self", "model", "inputs", "return_outputs"],
    (DPO, "_prepare_dataset"): ["self", "dataset", "processing_class", "args", "dataset_name"],
    (DPO, "_precompute_ref_logps"): ["self", "dataset", "name", "batch_size"],
    (DPO, "compute_ref_log_probs"): ["self", "model", "inputs"],
    (KTO, "_compute_loss"): ["self", "model", "inputs", "return_outputs"],
    (KTO, "_prepare_dataset"): ["self", "dataset", "processing_class", "args", "dataset_name"],
    (KTO, "_precompute_ref_logps"): ["self", "dataset", "name", "batch_size"],
    (KTO, "compute_ref_log_probs"): ["self", "model", "inputs"],
    (TRAINER, "_get_train_sampler"): ["self", "train_dataset"],
    (TRAINER, "_remove_unused_columns"): ["self", "dataset", "description"],
}
"""Methods that the plugin replaces, or calls by position."""


@cache
def trees() -> dict[str, ast.Module]:
    return {str(file.relative_to(PLUGIN)): ast.parse(file.read_text("utf-8")) for file in sorted(PLUGIN.rglob("*.py"))}


def nodes() -> Iterator[tuple[str, ast.AST]]:
    yield from ((file, node) for file, tree in trees().items() for node in ast.walk(tree))


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_"


def private_names_of_libraries() -> set[str]:
    """Names that are used of other objects than ``self`` and defined nowhere in the plugin, and replaced methods."""
    defined = {node.name for _, node in nodes() if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    of_self = {node.attr for _, node in nodes() if isinstance(node, ast.Attribute) and is_self(node.value)}
    fields = {n.target.id for _, n in nodes() if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}
    used = {node.attr for _, node in nodes() if isinstance(node, ast.Attribute) and not is_self(node.value)}
    replaced = {
        method.name
        for file in ("training/trainers.py", "training/unpaired.py")
        for node in ast.walk(trees()[file])
        if isinstance(node, ast.ClassDef) and node.name != "Progress"
        for method in node.body
        if isinstance(method, ast.FunctionDef)
    }
    return {name for name in (used - defined - of_self - fields) | replaced if is_private(name)}


def is_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"


def imports() -> list[tuple[str, str, str]]:
    """Every name that the plugin imports from another package: its file, the module and the name."""
    found = [
        (file, node.module, alias.name)
        for file, node in nodes()
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    ]
    return [one for one in found if one[1].partition(".")[0] not in {"tutelage", "tutelage_transformers", "__future__"}]


def test_every_private_name_of_a_library_is_listed() -> None:
    assert private_names_of_libraries() == NAMES.keys()


@pytest.mark.parametrize("name", NAMES)
def test_a_private_name_exists_in_the_installed_version(name: str) -> None:
    assert NAMES[name](name)


@pytest.mark.parametrize(("place", "parameters"), SIGNATURES.items(), ids=str)
def test_a_replaced_method_has_the_parameters_that_the_plugin_expects(
    place: tuple[str, str], parameters: list[str]
) -> None:
    path, name = place
    assert list(inspect.signature(getattr(resolve(path), name)).parameters) == parameters


def test_every_imported_name_exists() -> None:
    """It names each module or name that an upgrade has moved, at once and without a training."""
    found = imports()
    assert {"transformers", "trl", "peft", "torch"} <= {module.partition(".")[0] for _, module, _ in found}
    missing = [
        f"{file}: from {module} import {name}"
        for file, module, name in found
        if (package := module.partition(".")[0]) not in OPTIONAL or find_spec(package) is not None
        if not hasattr(import_module(module), name) and find_spec(f"{module}.{name}") is None
    ]
    assert missing == []


def test_the_state_of_the_loss_scaling_has_the_keys_that_are_read() -> None:
    from torch.amp import GradScaler

    source = inspect.getsource(GradScaler.state_dict)
    assert '"_growth_tracker"' in source and '"scale"' in source


def test_trls_dpo_trainer_still_hashes_its_model_by_the_function_that_is_replaced() -> None:
    assert "hash_module(" in inspect.getsource(resolve(DPO).__init__)


def test_transformers_still_writes_its_weights_by_the_function_that_is_replaced() -> None:
    source = inspect.getsource(resolve("transformers.modeling_utils:PreTrainedModel").save_pretrained)
    assert source.count("safe_save_file(shard_state_dict, filename, metadata=metadata)") == 1


@pytest.mark.parametrize("package", ["torch", "transformers", "trl"])
def test_a_release_after_the_pinned_one_is_not_installed_untested(package: str) -> None:
    """The upper bound in pyproject.toml is the release after the pin in constraints.txt, so they move together."""
    pins = [Requirement(line) for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if "==" in line]
    (pin,) = (str(one.specifier).removeprefix("==") for one in pins if one.name == package)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    (required,) = (one for one in map(Requirement, extras["transformers"]) if one.name == package)
    major, minor = Version(pin).release[:2]
    assert pin in required.specifier
    assert f"{major}.{minor}.999" in required.specifier
    assert f"{major}.{minor + 1}.0" not in required.specifier
