"""The runner: does the steps of a plan. Only this room writes to a run.

A step is done if its artifact is in place and was made from what the recipe says. A run may stop at any moment, by a
signal, an error or a power cut. Starting it again does the remaining steps and ends with the same artifacts. If the
recipe was changed, these are the artifacts of the new recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen

from tutelage.context import Context
from tutelage.errors import InputError, Interrupted, StageError, TutelageError
from tutelage.execution.actions import ACTIONS
from tutelage.execution.prepared import Prepared, notices_of, prepare, raise_problems
from tutelage.execution.reconciling import apply
from tutelage.execution.reporter import Reporter, Silent, earlier_steps
from tutelage.execution.step_context import Artifact, StepContext
from tutelage.execution.tracking import report_step, tracking_of
from tutelage.files.whole import write_whole
from tutelage.planning.artifacts import RECIPE, SUMMARY
from tutelage.planning.declared import declared
from tutelage.planning.made_from import MadeFrom
from tutelage.planning.pipelines import roles_needed
from tutelage.planning.roles import GENERATOR, endpoint_of
from tutelage.planning.sources import Sources
from tutelage.planning.steps import Step, Summarise, Train, Worker
from tutelage.plugins import stages
from tutelage.plugins.registry import Registry
from tutelage.recipe.loading import load_recipe, override, to_yaml
from tutelage.recipe.schema import Recipe
from tutelage.records import Model
from tutelage.results.run_warnings import warnings_of_step
from tutelage.results.summarise import summarise
from tutelage.results.summary import Summary, read_summary
from tutelage.results.summary_tables import write_summary
from tutelage.results.variants import variant_results
from tutelage.runs.artifact_cache import ArtifactCache, checked_cache
from tutelage.runs.changes import Changes, Place, changes
from tutelage.runs.declarations import store_declarations
from tutelage.runs.description import describe_run
from tutelage.runs.durable import STOPPED
from tutelage.runs.run import Run
from tutelage.runs.speeds import note_speed
from tutelage.runs.started import Started, Timer, drop_started, live_metrics, read_started, write_started
from tutelage.runs.store import Store
from tutelage.runs.tracebacks import kept_traceback
from tutelage.services.budget import Budget
from tutelage.services.caller import Caller
from tutelage.services.ledger import Ledger


def run(
    recipe: Recipe | str | Path = "embedded",
    directory: str | Path | None = None,
    registry: Registry | None = None,
    reporter: Reporter | None = None,
    cancelled: Callable[[], bool] | None = None,
    ask_refused_again: bool = False,
    approve: Callable[[Changes], bool] | None = None,
    cache: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Summary | None:
    """Run a recipe (a ``Recipe``, a file, or the name of a built-in one), or continue the run in ``directory``.

    ``overrides`` maps dotted keys of the recipe to other values: ``{"dpo.beta": 0.3}``.

    ``directory`` is ``runs/NAME`` by default, with the name of the recipe. ``registry`` is by default that of all
    installed plugins. ``cancelled`` is called regularly; the run stops once it returns true.

    If ``ask_refused_again`` is true, requests that a service refused are sent again, although the ledger has the
    refusals. Finished steps are not repeated, because other steps depend on them; to repeat their requests too, use
    another directory.

    If the directory contains a run of another recipe, the artifacts that the change does not concern are kept, and the
    others are set aside and made again. ``approve`` is called before anything is written, with what would change; if it
    returns false, nothing is done. ``cache`` is a folder of finished artifacts that several runs share: artifacts that
    it has are taken from it, and those that the run makes are added to it.

    If the recipe has variants, they are run after the recipe itself, each in a folder below ``directory``. ``approve``
    is called for each of them, and the summary compares them.

    Returns the summary of the run; None if the recipe has no evaluation. Raises InputError, before anything is written,
    if the recipe is wrong; PluginError if a plugin is missing; RunLockedError if another process works on the run;
    StageError if a plugin failed during the run; and Interrupted if ``cancelled`` returned true or ``approve`` false.
    After StageError and Interrupted, calling it again continues the run.
    """
    checked = override(recipe, overrides) if isinstance(recipe, Recipe) else load_recipe(recipe, overrides)
    registry = registry or Registry.discover()
    store = Store(Path(directory) if directory else Path("runs") / checked.name)
    reporter = reporter or Silent()
    context = _context(store, checked, cancelled, ask_refused_again, reporter)
    caches = (checked_cache(Path(cache)),) if cache else ()
    prepared = prepare(checked, registry, store, caches)
    raise_problems(prepared)
    for notice in notices_of(prepared):
        reporter.note(notice)
    if approve is not None and not all(approve(one.changes) for one in prepared):
        raise Interrupted("nothing was changed")
    with store.lock(), kept_traceback(store, lambda: _secrets(checked, registry)), _after_the_start():
        _do_all(prepared, registry, reporter, context, caches)
        return read_summary(store.path(SUMMARY)) if checked.evaluation else None


def _do_all(
    prepared: Sequence[Prepared],
    registry: Registry,
    reporter: Reporter,
    context: Context,
    caches: Sequence[ArtifactCache],
) -> None:
    """Do the steps of a recipe, then those of its variants, then the summary that compares them."""
    base, *variants = prepared
    runner = _started(base, registry, reporter, context, caches, base.changes)
    runner = evolve(runner, variants={one.name: one.run for one in variants})
    if not variants:
        runner.walk(base.plan.steps)
        return
    runner.walk([step for step in base.plan.steps if not isinstance(step, Summarise)])
    for number, one in enumerate(variants, 1):
        reporter.note(f"variant {number} of {len(variants)}: {one.name}")
        elsewhere: list[Place] = [*caches, *(other.store for other in prepared if other is not one)]
        with one.store.lock():
            found = changes(one.store, one.plan, one.sources, elsewhere)
            _started(one, registry, reporter, context, caches, found, elsewhere).walk(one.plan.steps)
    runner.walk(base.plan.steps)


def _started(
    prepared: Prepared,
    registry: Registry,
    reporter: Reporter,
    context: Context,
    caches: Sequence[ArtifactCache],
    found: Changes,
    elsewhere: Sequence[Place] | None = None,
) -> Runner:
    """Apply the changes of a recipe to its folder. Returns the runner that does what is left."""
    apply(found, caches if elsewhere is None else elsewhere)
    store_declarations(prepared.store, prepared.recipe, prepared.sources.declared)
    _describe_run(prepared.store, prepared.recipe, registry)
    made_from = {change.step.output: change.made_from for change in found.steps}
    return Runner(prepared.run, registry, reporter, context, made_from, prepared.sources, caches)


def _secrets(recipe: Recipe, registry: Registry) -> Iterator[str]:
    """The API keys of the services that the recipe's models call."""
    for role in roles_needed(recipe, declared(recipe, registry)):
        with suppress(TutelageError):
            service = endpoint_of(recipe, role, registry)
            if service is not None and service.secret:
                yield service.secret


@contextmanager
def _after_the_start() -> Iterator[None]:
    """Raise an ``InputError`` as ``StageError``: its exit code would mean that nothing was written."""
    try:
        yield
    except InputError as error:
        raise StageError(str(error)) from error


def _context(
    store: Store, recipe: Recipe, cancelled: Callable[[], bool] | None, ask_refused_again: bool, reporter: Reporter
) -> Context:
    """Return the context for plugins. Its caller has the name of the run and the budget of the recipe, if any."""
    name = str(store.root.resolve())
    budget = None if recipe.budget is None else Budget(recipe.budget, Ledger().spent(name))
    is_cancelled = cancelled or bool  # bool() is False
    caller = Caller(budget=budget, run=name, cancelled=is_cancelled, ask_refused_again=ask_refused_again)
    caller.note = reporter.note
    return Context(cancelled=is_cancelled, caller=caller)


@frozen
class Runner:
    """Does the steps of one run in this process."""

    run: Run
    registry: Registry
    reporter: Reporter
    context: Context
    made_from: Mapping[str, MadeFrom]
    """What the result of every step depends on, by the path of its artifact."""
    sources: Sources
    """The data of the recipe."""
    caches: Sequence[ArtifactCache] = ()
    """Caches that finished artifacts are added to."""
    variants: Mapping[str, Run] = field(factory=dict)
    """The runs of the recipe's variants, which the summary compares."""
    _intact: set[str] = field(factory=set, init=False)
    """Checkpoints that this process has written, or compared with their checksums."""

    def walk(self, steps: Sequence[Step]) -> None:
        """Do every one of these steps of the plan that is not done, in their order."""
        remaining = []
        for step in steps:
            if self.run.store.has(step.output):
                self.run.store.drop_journal(step.output)
                self.run.store.drop_scratch(step.output)
                self._share(step)
            else:
                remaining.append(step)
        self.reporter.planned(remaining, earlier_steps(self.run, remaining))
        loaded: Model | None = None
        try:
            for step in remaining:
                self._stop_if_cancelled()
                self._check_checkpoints(step)
                loaded = self._release_before(step, loaded)
                self._do(step)
        finally:  # a generator may have started a server
            if loaded is not None:
                stages.release(self.registry, loaded)
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

        With a generator, which is another plugin on the same device, this holds for every model that occupies memory.
        Returns the model that is loaded during the step.
        """
        worker: Worker | None = step.start if isinstance(step, Train) else getattr(step, "worker", None)
        if worker is None:
            return loaded
        model = self._step_context(self.context).model(worker)
        if worker.role not in ("student", GENERATOR) and not self._shares_device(model):
            return loaded
        if loaded is not None and (loaded != model or isinstance(step, Train)):
            stages.release(self.registry, loaded)
        return model

    def _shares_device(self, model: Model) -> bool:
        """Whether a teacher, judge or evaluator takes memory that a generator needs: its plugin can release it."""
        return self.run.recipe.models.student.generator is not None and "release" in self.registry.hooks(model.plugin)

    def _do(self, step: Step) -> None:
        self.reporter.started(step)
        store, caller = self.run.store, self.context.caller.for_stage(step.stage)
        timer = self._begin(step)

        def advance(items: int) -> None:
            timer.advanced(items, caller.tally.cost)
            self.reporter.advanced(step, items, caller.tally.cost)

        def expect(total: int) -> None:
            timer.expected = total
            self.reporter.expected(step, total)

        def log(row: Mapping[str, Any]) -> None:
            write_row(row)
            self.reporter.logged(step, row)

        scratch = store.scratch(step.output)
        context = evolve(self.context, scratch=scratch, caller=caller, advance=advance, expect=expect, log=log)
        if isinstance(step, Train):
            context = evolve(context, tracking=tracking_of(self.run, step.output, self.made_from))
        with timer.kept_on_error(lambda: caller.tally.cost), live_metrics(store, step.output) as write_row:
            artifact = self._make(step, self._step_context(context))
            seconds, cost = timer.seconds, timer.cost(caller.tally.cost)
            store.write_made_from(step.output, self.made_from[step.output])
            store.note_step(step.output, seconds, artifact.counts, cost, artifact.rows, artifact.folder)
            artifact.commit()
        self._intact.add(step.output)
        store.drop_scratch(step.output)
        drop_started(store, step.output)
        note_speed(step, self.run.recipe, seconds)
        self._share(step)
        self.reporter.finished(step, seconds, artifact.counts)
        self._report(step, artifact.counts)
        for warning in warnings_of_step(self.run, step, artifact.counts):
            self.reporter.note(f"warning: {warning}")

    def _report(self, step: Step, counts: Mapping[str, int]) -> None:
        """Report the metrics of a step to the recipe's trackers. The run does not depend on them."""
        try:
            report_step(self.run, step, counts, self.made_from, self.registry)
        except Exception as error:  # of a tracker: a service that does not answer, a full disk
            self.reporter.note(f"warning: report_to: the metrics of {step.output} were not reported: {error}")

    def _share(self, step: Step) -> None:
        for cache in self.caches:
            cache.put(self.run.store, step.output)

    def _begin(self, step: Step) -> Timer:
        """Return the timer of a step. What an earlier process kept for another result is deleted."""
        store, fingerprint = self.run.store, self.made_from[step.output].fingerprint
        before = read_started(store, step.output)
        if before is None or before.fingerprint != fingerprint:
            store.drop_journal(step.output)
            store.drop_scratch(step.output)
            before = Started(fingerprint)
            write_started(store, step.output, before)
        return Timer(store, step.output, before)

    def _make(self, step: Step, step_context: StepContext) -> Artifact:
        if isinstance(step, Summarise):
            summary = evolve(summarise(self.run), variants=variant_results(self.run, self.variants))
            return Artifact({}, lambda: write_summary(summary, self.run.store))
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
        return StepContext(self.run, self.registry, context, self.sources)


def _describe_run(store: Store, recipe: Recipe, registry: Registry) -> None:
    """Write the resolved recipe and the description of the run."""
    describe_run(store, registry)
    text = to_yaml(recipe)
    if not store.has(RECIPE) or store.path(RECIPE).read_text(encoding="utf-8") != text:
        write_whole(store.path(RECIPE), lambda path: path.write_text(text, encoding="utf-8", newline="\n"))
