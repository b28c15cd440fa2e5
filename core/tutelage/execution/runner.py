"""The runner: does the steps of a plan. No other module writes to a run.

A step is done if its artifact exists. A run may stop at any moment, by a signal, an error or a power cut. Starting it
again with the same recipe does the remaining steps and ends with the same artifacts.
"""

from __future__ import annotations

import importlib.metadata
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import asdict, evolve, field, frozen

from tutelage.context import Context
from tutelage.errors import InputError, Interrupted, StageError
from tutelage.execution.actions import ACTIONS
from tutelage.execution.reporter import Reporter, Silent
from tutelage.execution.step_context import Artifact, StepContext
from tutelage.files.whole import write_whole
from tutelage.planning.artifacts import DESCRIPTION, RECIPE, SUMMARY
from tutelage.planning.checks import checked_plan
from tutelage.planning.lengths import check_lengths
from tutelage.planning.roles import endpoint_of
from tutelage.planning.steps import Plan, Step, Summarise, Train, Worker
from tutelage.plugin import stages
from tutelage.plugin.registry import Registry
from tutelage.recipe.loading import find_recipe, load_recipe, to_yaml
from tutelage.recipe.schema import Binding, Recipe, Roles
from tutelage.records import Model
from tutelage.results.run_warnings import warnings_of_step
from tutelage.results.summarise import write_summary
from tutelage.results.summary import Summary, read_summary
from tutelage.runs.durable import STOPPED
from tutelage.runs.run import Run
from tutelage.runs.store import Store
from tutelage.services.budget import Budget
from tutelage.services.caller import Caller
from tutelage.services.ledger import Ledger

SCHEMA = 1


def run(
    recipe: Recipe | str | Path = "embedded",
    directory: str | Path | None = None,
    registry: Registry | None = None,
    reporter: Reporter | None = None,
    cancelled: Callable[[], bool] | None = None,
    ask_refused_again: bool = False,
) -> Summary | None:
    """Run a recipe (a ``Recipe``, a file, or the name of a built-in one), or continue the run in ``directory``.

    ``directory`` is ``runs/NAME`` by default, with the name of the recipe. ``registry`` is by default that of all
    installed plugins. ``cancelled`` is called regularly; the run stops once it returns true.

    If ``ask_refused_again`` is true, requests that a service refused are sent again, although the ledger has the
    refusals. Finished steps are not repeated, because other steps depend on them; to repeat their requests too, use
    another directory.

    Returns the summary of the run; None if the recipe has no evaluation. Raises InputError, before anything is written,
    if the recipe is wrong or the directory contains another run; PluginError if a plugin is missing; RunLockedError if
    another process works on the run; StageError if a plugin failed during the run; and Interrupted if ``cancelled``
    returned true. After StageError and Interrupted, calling it again continues the run.
    """
    checked = recipe if isinstance(recipe, Recipe) else load_recipe(find_recipe(str(recipe)))
    registry = registry or Registry.discover()
    plan = checked_plan(checked, registry)
    store = Store(Path(directory) if directory else Path("runs") / checked.name)
    context = _context(store, checked, cancelled, ask_refused_again)
    check_same_recipe(store, checked, registry)
    if any(isinstance(step, Train) and not store.has(step.output) for step in plan.steps):
        check_lengths(checked, registry)
    _open_ledger(plan, store, checked, registry, context.caller)
    with store.lock():
        _describe_run(store, checked, registry)
        Runner(Run(store, checked, plan), registry, reporter or Silent(), context).walk()
    return read_summary(store.path(SUMMARY)) if checked.evaluation else None


def _context(store: Store, recipe: Recipe, cancelled: Callable[[], bool] | None, ask_refused_again: bool) -> Context:
    """Return the context for plugins. Its caller has the name of the run and the budget of the recipe, if any."""
    name = str(store.root.resolve())
    budget = None if recipe.budget is None else Budget(recipe.budget, Ledger().spent(name))
    is_cancelled = cancelled or bool  # bool() is False
    caller = Caller(budget=budget, run=name, cancelled=is_cancelled, ask_refused_again=ask_refused_again)
    return Context(cancelled=is_cancelled, caller=caller)


def _open_ledger(plan: Plan, store: Store, recipe: Recipe, registry: Registry, caller: Caller) -> None:
    """Open the ledger if a step that is left asks a service. Raises InputError before any step if that fails."""
    workers = {getattr(step, "worker", None) for step in plan.steps if not store.has(step.output)}
    roles = {worker.role for worker in workers if worker is not None}
    if any(endpoint_of(recipe, role, registry) is not None for role in roles):
        _ = caller.ledger


def check_same_recipe(store: Store, recipe: Recipe, registry: Registry) -> None:
    """Raise InputError with the differing lines if the folder contains a run of another recipe.

    A run may continue with another budget. It may also continue with another ``micro_batch_size``, for example if the
    GPU was too small: it does not change the examples of an optimizer step. Each plugin may be given by its name or by
    an alias.
    """
    stored = store.path(RECIPE)
    if not stored.exists():
        return
    # Not compared as text: keys that are newer than the stored recipe get their defaults when it is read.
    before, now = (_compared_lines(one, registry) for one in (load_recipe(stored), recipe))
    if before != now:
        differing = [line.strip() for line in now if line not in before] or ["lines were left out"]
        raise InputError(
            f"{store.root}: this run was made by another recipe (differing: {'; '.join(differing[:5])}); "
            f"name another folder with --run, or use the recipe of this run, {stored}"
        )


def _compared_lines(recipe: Recipe, registry: Registry) -> list[str]:
    lines = to_yaml(evolve(recipe, budget=None, models=_with_plugin_names(recipe.models, registry))).splitlines()
    return [line for line in lines if not line.strip().startswith("micro_batch_size:")]


def _with_plugin_names(models: Roles, registry: Registry) -> Roles:
    """Return the bindings with aliases replaced by the names of the plugins, also in the names of their models."""
    offered = registry.offered("models")

    def named(binding: Binding) -> Binding:
        plugin, _, model = binding.model.partition("/")
        qualified = f"{registry.name_of(plugin)}/{model}"
        model = qualified if qualified in offered else binding.model
        return evolve(binding, plugin=registry.name_of(binding.plugin), model=model)

    bindings: dict[str, Binding | None] = asdict(models, recurse=False)
    return evolve(models, **{role: named(binding) for role, binding in bindings.items() if binding is not None})


@frozen
class Runner:
    """Does the steps of one run in this process."""

    run: Run
    registry: Registry
    reporter: Reporter
    context: Context
    _intact: set[str] = field(factory=set, init=False)
    """Checkpoints that this process has written, or compared with their checksums."""

    def walk(self) -> None:
        """Do every step that is not done, in the plan's order.

        After the first step, also one of an earlier process, an ``InputError`` is raised as ``StageError``: its exit
        code would mean that nothing was run.
        """
        remaining = []
        for step in self.run.plan.steps:
            if self.run.store.has(step.output):
                self.run.store.drop_journal(step.output)
                self.run.store.drop_scratch(step.output)
            else:
                remaining.append(step)
        self.reporter.planned(remaining)
        work_began = len(remaining) < len(self.run.plan.steps)
        loaded: Model | None = None
        for step in remaining:
            self._stop_if_cancelled()
            try:
                self._check_checkpoints(step)
                loaded = self._release_before(step, loaded)
                self._do(step)
            except InputError as error:
                if work_began:
                    raise StageError(str(error)) from error
                raise
            work_began = True
        self.run.store.drop_scratch()

    def _check_checkpoints(self, step: Step) -> None:
        """Compare the checkpoints of an earlier process with their checksums, before this process first uses them."""
        workers = (step.start, step.reference) if isinstance(step, Train) else (getattr(step, "worker", None),)
        for worker in workers:
            if worker is not None and worker.checkpoint and worker.checkpoint not in self._intact:
                if problems := self.run.store.problems(worker.checkpoint, checksums=True):
                    raise InputError("\n".join(problems))
                self._intact.add(worker.checkpoint)

    def _release_before(self, step: Step, loaded: Model | None) -> Model | None:
        """Free the memory of the loaded student if the step uses another student or trains.

        Returns the student that is loaded during the step.
        """
        worker: Worker | None = step.start if isinstance(step, Train) else getattr(step, "worker", None)
        if worker is None or worker.role != "student":
            return loaded
        model = self._step_context(self.context).model(worker)
        if loaded is not None and (loaded != model or isinstance(step, Train)):
            stages.release(self.registry, loaded)
        return model

    def _do(self, step: Step) -> None:
        started = time.monotonic()
        self.reporter.started(step)
        caller = self.context.caller.for_stage(step.stage)
        context = evolve(
            self.context,
            scratch=self.run.store.scratch(step.output),
            caller=caller,
            advance=lambda items: self.reporter.advanced(step, items, caller.tally.cost),
            expect=lambda total: self.reporter.expected(step, total),
        )
        artifact = self._make(step, self._step_context(context))
        seconds = time.monotonic() - started
        cost = caller.tally.cost
        self.run.store.note_step(step.output, seconds, artifact.counts, cost, artifact.rows, artifact.folder)
        artifact.commit()
        self._intact.add(step.output)
        self.run.store.drop_scratch(step.output)
        self.reporter.finished(step, seconds, artifact.counts)
        for warning in warnings_of_step(self.run, step, artifact.counts):
            self.reporter.note(f"warning: {warning}")

    def _make(self, step: Step, step_context: StepContext) -> Artifact:
        if isinstance(step, Summarise):
            return Artifact({}, lambda: write_summary(self.run))
        try:
            return ACTIONS[type(step)](step, step_context)
        except StageError:
            # A cancelled training raises StageError, so that no incomplete checkpoint is used. It is no failure.
            self._stop_if_cancelled()
            raise

    def _stop_if_cancelled(self) -> None:
        if self.context.cancelled():
            raise Interrupted(STOPPED)

    def _step_context(self, context: Context) -> StepContext:
        return StepContext(self.run, self.registry, context)


def _describe_run(store: Store, recipe: Recipe, registry: Registry) -> None:
    """Write the resolved recipe and the versions of tutelage, its plugins and libraries, unless they exist."""
    if not store.has(DESCRIPTION):
        _write_description(store, registry)
    if not store.has(RECIPE):
        write_whole(store.path(RECIPE), lambda path: path.write_text(to_yaml(recipe), encoding="utf-8", newline="\n"))


def _write_description(store: Store, registry: Registry) -> None:
    versions = {status.name: status.version for status in registry.statuses() if status.status == "ok"}
    store.write_json(
        DESCRIPTION,
        {
            "schema": SCHEMA,
            "tutelage": _version("tutelage"),
            "python": platform.python_version(),
            "libraries": {name: _version(name) for name in ("torch", "transformers", "trl", "peft") if _version(name)},
            "plugins": versions,
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        },
    )


def _version(distribution: str) -> Any:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
