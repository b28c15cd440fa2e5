"""The helper hooks: they describe, check and convert the models of a plugin, before and beside the stages.

All of them are optional. They follow the rules of the stages: an implementation names only the arguments that it uses,
and only the plugin of the role is called, with the plugins that wrap the hook around it. They are declared with
``firstresult=True``: a result that is not None stops the chain, and None, as well as a plugin without the hook, means
what its description says.

``settings`` are the plugin's settings, or None if the plugin has no settings class. ``name`` is the name of the model
as the recipe binds it, or an empty text for the plugin's default model. A ``TutelageError`` is passed on unchanged. Any
other exception becomes a ``PluginError`` that names the hook, the plugin and its distribution, the model and its
address. Before a run, it is one of the listed problems; in ``tutelage doctor``, it is a finding.

Import torch and SDKs inside the functions: some of these hooks are called by every command.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tutelage.context import Tracking
from tutelage.hookspecs import hookspec
from tutelage.objectives import Objective
from tutelage.plugin_info import Conversion, Finding, RunNeeds, TokenCounts
from tutelage.services.requests import Endpoint

HELPERS = (
    "endpoint",
    "check",
    "check_run",
    "check_prompts",
    "check_objective",
    "check_report_to",
    "report",
    "count_tokens",
    "convert",
    "devices",
    "requests_at_once",
)


@hookspec(firstresult=True)
def endpoint(settings: Any, name: str) -> Endpoint | None:
    """Return the service that runs a model. A plugin with this hook is a plugin for an API.

    Called to estimate costs, to compare models, and to name the address in messages. Makes no request. Each answer of
    such a plugin is stored as soon as it arrives (``PluginInfo.item_by_item``), because it may not be paid for twice.

    Arguments:

    - ``settings``: the plugin's settings.
    - ``name``: the name of the model; empty for the default model.

    Returns the ``Endpoint``; None, as without the hook: the model runs on this machine.

    ::

        from tutelage import Endpoint, hookimpl

        @hookimpl
        def endpoint(settings, name):
            return Endpoint("shouty", "https://api.shouty.example/v1", name or "shouty-large")
    """


@hookspec(firstresult=True)
def check(settings: Any, name: str) -> Iterable[Finding] | None:
    """Check what a model needs: SDK, key, endpoint, model.

    Called by ``tutelage doctor``. Before a run and in ``tutelage plan`` it is called for a plugin that implements
    ``endpoint``, or that does not implement ``check_run``. It makes at most one request, which must be free of charge.

    Arguments:

    - ``settings``: the plugin's settings.
    - ``name``: the name of the model; empty for the default model.

    Returns or yields one ``Finding`` for each requirement. Its ``ok`` is True, False, or None if the check could not be
    made, for example because a service cannot be reached. None, as without the hook: only the environment variables of
    ``PluginInfo`` are checked.

    ::

        import os

        from tutelage import Finding, hookimpl

        @hookimpl
        def check(settings, name):
            has_key = "SHOUTY_KEY" in os.environ
            yield Finding("key", has_key, "SHOUTY_KEY is set" if has_key else "set SHOUTY_KEY to your key")
    """


@hookspec(firstresult=True)
def check_run(settings: Any, name: str, needs: RunNeeds) -> Iterable[Finding] | None:
    """Check a model on this machine for a run: files, chat template, memory, disk.

    Called by ``tutelage plan`` and before the first step of ``tutelage run``, once for each distinct model, for a
    plugin without ``endpoint``. It loads no weights, and imports no heavy library if the result can be kept
    (``tutelage.files.user_cache``). It writes nothing into the run's folder.

    Arguments:

    - ``settings``: the plugin's settings.
    - ``name``: the name of the model; empty for the default model.
    - ``needs``: the hooks that the run calls, its trainings, its folder, and whether downloads are allowed.

    Returns or yields one ``Finding`` for each problem, with the remedy. None, as without the hook: ``check`` is called.

    ::

        import shutil

        from tutelage import Finding, hookimpl

        @hookimpl
        def check_run(name, needs):
            if shutil.disk_usage(".").free < 1_000_000 * len(needs.trainings):
                yield Finding("disk", False, f"{name}: the disk has no space for the checkpoints; free some")
    """


@hookspec(firstresult=True)
def check_prompts(prompts: Sequence[str]) -> str | None:
    """Check whether a teacher, judge or evaluator knows texts of this kind.

    Called before a run, and before a command that lets the model judge or answer rows of files.

    Arguments:

    - ``prompts``: some of the prompts, at least 1 and at most 50.

    Returns the problem and the remedy as text. An empty text or None, as without the hook: there is no problem.

    ::

        from tutelage import hookimpl

        @hookimpl
        def check_prompts(prompts):
            if all(prompt.isupper() for prompt in prompts):
                return "every prompt is in capitals already; choose other prompts"
            return ""
    """


@hookspec(firstresult=True)
def check_objective(settings: Any, objective: Objective) -> Iterable[str] | None:
    """Check whether a student can be trained with an objective.

    Called by ``tutelage plan`` and before the first step of ``tutelage run``, for each objective of the recipe. It
    imports no heavy library.

    Arguments:

    - ``settings``: the plugin's settings.
    - ``objective``: the hyperparameters: an ``Sft`` or ``Dpo`` record, or an objective of a plugin that the student
      trains. Problems of the objective itself are those of its own ``problems``.

    Returns or yields each problem as ``KEY: problem and remedy``, where KEY is a key of the objective (``loss_type``,
    ``lora.r``). None, as without the hook: there is no problem.

    ::

        from tutelage import hookimpl

        @hookimpl
        def check_objective(objective):
            if objective.lora is not None:
                yield "lora: this student has no layers to adapt; leave it out"
    """


@hookspec(firstresult=True)
def check_report_to(names: Sequence[str]) -> Iterable[str] | None:
    """Check the experiment trackers of a recipe, for a student that reports to them.

    Called by ``tutelage plan`` and before the first step of ``tutelage run``, if the recipe has ``report_to``. A
    student without the hook reports to no tracker, and the key is an error.

    Arguments:

    - ``names``: the trackers in ``report_to``.

    Returns or yields a problem and its remedy for each tracker that is unknown or not installed. None: no problem.

    ::

        from tutelage import hookimpl

        @hookimpl
        def check_report_to(names):
            yield from (f"{name!r} is unknown; known: csv" for name in names if name != "csv")
    """


@hookspec(firstresult=True)
def report(tracking: Tracking, metrics: Mapping[str, float], step: int) -> None:
    """Add the metrics of a finished step to the tracked run, for a student with ``check_report_to``.

    Called after a step that makes pairs or scores, and at the end of a run for the results of each model. The losses of
    a training are reported by the training itself, from ``context.tracking``. An exception is a warning of the run.

    Arguments:

    - ``tracking``: the trackers, and the names of project and run in them.
    - ``metrics``: the metrics by name.
    - ``step``: the number of training steps of the model so far.

    Returns nothing.

    ::

        from tutelage import hookimpl

        @hookimpl
        def report(tracking, metrics, step):
            folder = tracking.folder / "csv" / tracking.run
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / "metrics.csv").open("a") as file:
                file.writelines(f"{step},{name},{value}\\n" for name, value in metrics.items())
    """


@hookspec(firstresult=True)
def count_tokens(settings: Any, name: str, rows: Sequence[Mapping[str, Any]], download: bool) -> TokenCounts | None:
    """Count the tokens of training data, as a student will read them. A plugin with this hook reads checkpoints.

    Called by ``tutelage plan`` and before the first step of ``tutelage run``, so that an example that is too long is
    found before the work.

    Arguments:

    - ``settings``: the plugin's settings.
    - ``name``: the name of the model; empty for the default model.
    - ``rows``: rows in TRL's conversational format, with ``prompt`` and ``completion``, or only ``prompt``.
    - ``download``: whether files may be downloaded.

    Returns the length of each row, in their order, and the model's context length. None: the lengths cannot be computed
    without a download. Raise a ``TutelageError`` if the model does not exist or cannot be trained. Without the hook,
    lengths are not checked.

    ::

        from tutelage import TokenCounts, hookimpl

        @hookimpl
        def count_tokens(rows):
            texts = (" ".join(part["content"] for messages in row.values() for part in messages) for row in rows)
            return TokenCounts(tuple(len(text.split()) for text in texts), context=4096)
    """


@hookspec(firstresult=True)
def convert(checkpoint: Path, output: Path, conversion: Conversion) -> bool | None:
    """Convert a checkpoint to another data type, quantisation or format.

    Called by ``tutelage export`` with ``--format``, ``--dtype`` or ``--quantize``. A plain copy does not call it.

    Arguments:

    - ``checkpoint``: the folder of the checkpoint, which must not be changed.
    - ``output``: an empty folder for the complete converted checkpoint.
    - ``conversion``: data type, quantisation and format of the result.

    The result is ignored. Raise a ``TutelageError`` if the conversion is not possible on this machine. Without the
    hook, such an export is an error.

    ::

        import shutil

        from tutelage import InputError, hookimpl

        @hookimpl
        def convert(checkpoint, output, conversion):
            if conversion.format == "gguf":
                raise InputError("shouty models have no GGUF format; leave out --format")
            shutil.copytree(checkpoint, output, dirs_exist_ok=True)
    """


@hookspec(firstresult=True)
def devices(settings: Any) -> int | None:
    """Return the number of devices that share the answers and judgements of a model.

    Called before local work. The plugin then gets as many chunks at once, so that each device has as much to do as one
    device alone. It must draw by ``Context.seeds``, so that results do not depend on the number of devices.

    Arguments:

    - ``settings``: the plugin's settings.

    Returns a number of at least 1. None, as without the hook: one device.

    ::

        import os

        from tutelage import hookimpl

        @hookimpl
        def devices():
            return len(os.environ.get("SHOUTY_DEVICES", "0").split(","))
    """


@hookspec(firstresult=True)
def requests_at_once(settings: Any) -> int | None:
    """Return the number of requests that a model answers together in about the time of one.

    Called before local work. A model on one device gets as many chunks at once as keep it busy, because few of the
    requests of a call still run at its end. It must draw by ``Context.seeds``, as for ``devices``, so that results do
    not depend on this number.

    Also called before a model writes prompts. Only what the replies contain shows how many requests are needed, so they
    are asked in rounds of 32. A model that answers more at once gets as many rounds together as are expected to
    suffice, and the replies that were not needed are dropped.

    Arguments:

    - ``settings``: the plugin's settings.

    Returns a number of at least 1. None, as without the hook: one chunk, and one round, is asked after the other, as is
    right for replies that are paid for.

    ::

        from tutelage import hookimpl

        @hookimpl
        def requests_at_once():
            return 256
    """
