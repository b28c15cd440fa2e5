"""The checks for ``tutelage doctor`` and before a run: libraries, device, weights, tokenizer, memory and disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

from tutelage.errors import InputError, TutelageError
from tutelage.files.jsonl import read_json
from tutelage.objectives import Lora, Objective
from tutelage.plugin_info import Finding, RunNeeds
from tutelage.preferences.expected_scores import score_replies
from tutelage.records import Model
from tutelage_transformers.devices import parallel, selection
from tutelage_transformers.devices.capacity import Capacity, capacity_of
from tutelage_transformers.generation import rewarding
from tutelage_transformers.models import finding, loading, quantizing, rewards, trial
from tutelage_transformers.models.counting import count_tokens, is_readable
from tutelage_transformers.models.weights import BadWeights, WeightShapes, read_shapes
from tutelage_transformers.settings import DEFAULT_MODEL, TransformersSettings
from tutelage_transformers.training import ahead, arguments, launching
from tutelage_transformers.training.fitting import state_bytes
from tutelage_transformers.training.objectives import section_of
from tutelage_transformers.training.request import check_importable

_PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "safetensors")
_GIB = 2**30


def check(settings: TransformersSettings | None, name: str) -> Iterator[Finding]:
    """Check what generation and training need; asks the hub one free question if the weights are not here."""
    try:
        finding.require(*_PACKAGES)
    except TutelageError as error:
        yield Finding("libraries", False, str(error))
        return
    yield Finding("libraries", True, ", ".join(_PACKAGES))
    yield _device()
    weights = name or DEFAULT_MODEL
    try:
        here = finding.is_local(weights, bool(settings and settings.local_files_only))
    except TutelageError as error:
        yield Finding("model", False, str(error))
    else:
        yield Finding("model", True, f"{weights} is on this machine" if here else f"{weights} will be downloaded")
        yield from _tokenizer(settings, weights)


def _tokenizer(settings: TransformersSettings | None, name: str) -> Iterator[Finding]:
    """Report whether completions can end, and the model's context; nothing for a model that is not downloaded yet."""
    try:
        counts = count_tokens(settings, name, [], download=False)
    except TutelageError as error:
        yield Finding("tokenizer", False, str(error))
    else:
        if counts is not None:
            yield Finding("tokenizer", True, f"has an end token; the model sees {counts.context:,} tokens at once")


def _device() -> Finding:
    import torch

    if not torch.cuda.is_available() and torch.backends.mps.is_available():
        return Finding("GPU", True, "Apple's, through Metal (MPS)")
    if not torch.cuda.is_available():
        return Finding("GPU", True, f"none; {torch.get_num_threads()} processor threads, enough for small models")
    properties = torch.cuda.get_device_properties(0)
    memory = f"{properties.total_memory / _GIB:.0f} GiB"
    return Finding("GPU", True, f"{torch.cuda.device_count()} x {properties.name}, {memory} each")


def check_objective(settings: TransformersSettings | None, objective: Objective) -> Iterator[str]:
    """Yield each problem of an objective as ``KEY: problem``, also where the settings contradict it. No torch.

    Raises ``InputError`` if the settings name several processes, which cannot import the objective.
    """
    settings = settings or TransformersSettings()
    if settings.accelerate_config is not None or (settings.processes or 1) > 1:
        check_importable(objective)
    yield from arguments.objective_problems(objective)
    if settings.quantization != "none" and objective.lora is None:
        yield "lora: missing; settings.quantization 4bit needs an adapter to learn on it: set lora, or leave 4bit out"
    if settings.processes is not None and objective.batch_size % settings.processes:
        yield (
            f"batch_size: {objective.batch_size}; settings.processes {settings.processes} cannot share it equally: "
            "choose a multiple, or other processes"
        )


def check_run(settings: TransformersSettings | None, name: str, needs: RunNeeds) -> Iterator[Finding]:
    """Yield each problem of a model on this machine that would stop a run: files, tokenizer, device, memory, disk.

    Before a run that trains on several devices, their processes are started, see ``ahead``. They end if there is a
    problem or an error.
    """
    settings = settings or TransformersSettings()
    capacity = capacity_of(settings)
    started = ahead.start(settings, needs, capacity)
    with ExitStack() as unless_passed:
        unless_passed.callback(ahead.end, started)
        problems = list(_run_problems(settings, name, needs, capacity))
        if not problems:
            ahead.keep(started, settings, needs, capacity)
            unless_passed.pop_all()
    yield from problems


def _run_problems(
    settings: TransformersSettings, name: str, needs: RunNeeds, capacity: Capacity | None
) -> Iterator[Finding]:
    location = loading.location(Model("transformers", name))
    if lacking := list(_problem("libraries", lambda: finding.require(*_PACKAGES))):
        detail = f"{lacking[0].detail}; models.student is not checked here"
        yield lacking[0] if needs.download else Finding("libraries", None, detail)
        return
    yield from _devices(settings, needs)
    if not needs.download and not is_readable(location):
        detail = f"model {location}: it is not on this machine; `tutelage run` asks the hub for it and checks it"
        yield Finding("model", None, detail)
        return
    missing = list(_problem("model", lambda: finding.is_local(location, settings.local_files_only)))
    if missing:
        yield from missing
        return
    folder = finding.folder_of(location)
    is_reward = rewards.is_reward_model(location, settings.local_files_only)
    yield from _judge_problems(location, needs, is_reward)
    replies = [] if is_reward else [score_replies(rubric) for rubric in needs.expected_scores]
    for problem in trial.problems(
        location, folder, settings.local_files_only, needs.system, needs.several_turns, replies, is_reward
    ):
        yield Finding("tokenizer", False, problem)
    if folder is None:
        return  # the weights are downloaded by the run
    kind = read_json(Path(folder, "config.json")).get("model_type", "")
    if (overflow := loading.float16_problem(kind, settings)) is not None:
        yield Finding("dtype", False, f"model {location}: {overflow}")
    if settings.attention == "sdpa":
        uncapped = None
        with suppress(OSError, ValueError):  # a configuration that cannot be read is reported above
            uncapped = loading.attention_problem(loading.read_config(location, settings.local_files_only), settings)
        if uncapped is not None:
            yield Finding("attention", False, f"model {location}: {uncapped}")
    try:
        shapes = read_shapes(folder)
    except BadWeights as error:
        yield Finding("weights", False, str(error))
        return
    adapters = {objective.lora: objective for objective in needs.trainings if objective.lora is not None}
    for lora, objective in adapters.items():
        problems = list(shapes.target_problems(lora)) or list(_dropout_problems(lora, shapes, location, settings))
        for problem in problems:
            yield Finding("adapter", False, f"{section_of(objective)}.{problem}")
    if capacity is not None:
        yield from memory_findings(location, shapes, settings, needs, capacity)
    if needs.directory is not None:
        output = needs.directory.absolute()
        existing = next(folder for folder in (output, *output.parents) if folder.exists())
        on_gpu = capacity is not None and capacity.is_gpu
        yield from disk_findings(shapes, settings, needs, existing, shutil.disk_usage(existing).free, on_gpu)


def _dropout_problems(lora: Lora, shapes: WeightShapes, location: str, settings: TransformersSettings) -> Iterator[str]:
    """The problem of an adapter's dropout with a mixture of experts. For other models, PEFT need not be imported."""
    if lora.dropout and any(".experts." in name for name in shapes.shapes):
        problem = arguments.dropout_problem(lora, loading.read_config(location, settings.local_files_only))
        if problem is not None:
            yield problem


def _judge_problems(location: str, needs: RunNeeds, is_reward: bool) -> Iterator[Finding]:
    """The problems of a model with what it has to do and with the rubrics: a reward model only judges, without one."""
    if not is_reward:
        for rubric in needs.rubrics:
            if not rubric.template and not rubric.is_bounded:
                detail = f"rubric {rubric.name!r} has no template, and a language model needs one; use another rubric"
                yield Finding("rubric", False, detail)
        return
    if others := sorted(needs.hooks - {"judge", "evaluate"}):
        yield Finding(
            "model",
            False,
            f"model {location}: it is a classifier, which only judges and compares, and the run calls "
            f"{', '.join(others)}; bind another model",
        )
    for rubric in needs.rubrics:
        if rubric.is_bounded:
            yield Finding("rubric", False, rewarding.rubric_problem(rubric))


def memory_findings(
    location: str, shapes: WeightShapes, settings: TransformersSettings, needs: RunNeeds, capacity: Capacity
) -> Iterator[Finding]:
    """Yield a finding if the weights, or the state of a training, cannot fit into the memory of the device.

    Activations are not counted: their number is estimated when a training starts, from the lengths of its examples.
    """
    needed = shapes.parameters * _bytes_of_weight(settings, capacity.is_gpu)
    advice = "use a smaller model, or settings.dtype bfloat16"
    for objective in needs.trainings:
        adapter = 0 if objective.lora is None else shapes.adapter_size(objective.lora)
        state = state_bytes(objective, _trained_bytes(shapes, settings, objective, capacity.is_gpu), adapter)
        if state > needed:
            needed = state
            advice = "set lora in sft and dpo, or use a smaller model" if objective.lora is None else advice
    if needed > capacity.total:
        yield Finding(
            "memory",
            False,
            f"model {location}: it needs at least {needed / _GIB:,.1f} GiB, and {capacity.name} has "
            f"{capacity.total / _GIB:,.1f} GiB; {advice}",
        )


def disk_findings(
    shapes: WeightShapes, settings: TransformersSettings, needs: RunNeeds, folder: Path, free: int, on_gpu: bool
) -> Iterator[Finding]:
    """Yield a finding if the checkpoints of all trainings, and one training checkpoint, do not fit on the disk."""
    needed = training_state = 0
    for objective in needs.trainings:
        adapter = 4 * shapes.adapter_size(objective.lora) if objective.lora else 0
        needed += shapes.parameters * _bytes_of_weight(settings, on_gpu) + adapter
        full = 12 * shapes.parameters  # float32 weights, and Adam's two moments
        training_state = max(training_state, 3 * adapter if objective.lora else full)
    if settings.checkpoint_minutes is not None:
        needed += training_state
    if needed > free:
        yield Finding(
            "disk",
            False,
            f"folder {folder}: {len(needs.trainings)} checkpoints need about {needed / _GIB:,.1f} GiB, and "
            f"{free / _GIB:,.1f} GiB are free; free space, choose another folder (--run), or train fewer models",
        )


def _bytes_of_weight(settings: TransformersSettings, on_gpu: bool) -> int:
    """The bytes of one weight as it is loaded and saved."""
    return 4 if settings.dtype == "float32" or (settings.dtype == "auto" and not on_gpu) else 2


def _trained_bytes(shapes: WeightShapes, settings: TransformersSettings, objective: Objective, on_gpu: bool) -> int:
    """The bytes of the weights in training. Full fine-tuning keeps them in float32."""
    if objective.lora is None:
        return 4 * shapes.parameters
    if settings.quantization != "none":
        return shapes.parameters // 2
    return shapes.parameters * _bytes_of_weight(settings, on_gpu)


def _devices(settings: TransformersSettings, needs: RunNeeds) -> Iterator[Finding]:
    """The settings of devices and processes. Torch is imported only if the settings name a device or processes."""
    if settings.device not in ("auto", "cpu"):
        yield from _problem("device", lambda: selection.device_of(settings))
    elif settings.processes is not None:
        yield from _problem("device", lambda: parallel.device_names(settings))
    for objective in needs.trainings if settings.quantization != "none" else ():
        if objective.lora is not None:
            yield from _problem("device", lambda one=objective: quantizing.check(one, settings))  # type: ignore[misc]
    if (config := settings.accelerate_config) is not None:
        yield from _problem("device", lambda: launching.accelerate(config))
    elif settings.processes is None:
        for objective in needs.trainings:
            yield from _problem("objective", lambda one=objective: _check_on_all_gpus(one, settings))  # type: ignore[misc]


def _check_on_all_gpus(objective: Objective, settings: TransformersSettings) -> None:
    """Raise ``InputError`` if all visible GPUs train together, and their processes cannot import the objective."""
    try:
        check_importable(objective)
    except InputError:  # torch is imported only then
        if parallel.training_processes(settings, objective.batch_size) > 1:
            raise


def _problem(what: str, check: Callable[[], object]) -> Iterator[Finding]:
    try:
        check()
    except TutelageError as error:
        yield Finding(what, False, str(error))
