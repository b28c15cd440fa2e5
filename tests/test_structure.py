"""The structure of the source: no import cycles, a small top of core, a test for each core module, unique names."""

from __future__ import annotations

import re
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest
from grimp import ImportGraph, build_graph
from import_graph import cycles, packages_in
from source_tree import imported_by, modules_in, public_classes

ROOT = Path(__file__).parents[1]
CORE = ROOT / "core/tutelage"
TESTS = ROOT / "tests/core"
PACKAGES = [CORE, *sorted(path.parent for path in (ROOT / "plugins").glob("*/__init__.py"))]
CONTRACT = {
    "context",
    "errors",
    "examples",
    "helper_specs",
    "hookspecs",
    "measure",
    "objectives",
    "pipeline",
    "pipeline_steps",
    "plugin_info",
    "records",
}
TOP = {"__init__", "__main__", "child_processes", "installation", *CONTRACT}
"""The modules that a plugin author reads; every other module belongs to a package."""

COVERED_BY = {
    "tutelage.__main__": "cli/test_main.py",
    "tutelage.context": "plugins/test_stages.py",
    "tutelage.errors": "recipe/test_loading.py",
    "tutelage.examples": "test_records.py",
    "tutelage.hookspecs": "plugins/test_registry.py",
    "tutelage.helper_specs": "plugins/test_helpers.py",
    "tutelage.measure": "plugins/test_measures.py",
    "tutelage.objectives": "recipe/test_loading.py",
    "tutelage.planning.label_steps": "planning/test_trained_by.py",
    "tutelage.planning.measure_checks": "planning/test_measure_steps.py",
    "tutelage.recipe.bindings": "planning/test_generator.py",
    "tutelage.plugin_info": "plugins/test_registry.py",
    "tutelage.cli.data_export": "cli/test_data.py",
    "tutelage.cli.data_import": "cli/test_data.py",
    "tutelage.cli.data_oasst": "cli/test_data.py",
    "tutelage.cli.data_show": "cli/test_data.py",
    "tutelage.cli.doctor": "cli/test_doctor_command.py",
    "tutelage.cli.evaluate.agreement": "cli/test_evaluate.py",
    "tutelage.cli.evaluate.alpaca_eval": "cli/test_evaluate.py",
    "tutelage.cli.evaluate.calibration": "cli/test_evaluate.py",
    "tutelage.cli.evaluate.difference": "cli/test_evaluate.py",
    "tutelage.cli.evaluate.head_to_head": "cli/test_evaluate.py",
    "tutelage.cli.evaluate.printing": "cli/test_evaluate.py",
    "tutelage.cli.lazy_group": "cli/test_main.py",
    "tutelage.cli.ledger": "cli/test_ledger_command.py",
    "tutelage.cli.metrics": "cli/test_evaluate.py",
    "tutelage.cli.missing_files": "cli/test_recipes_prepare.py",
    "tutelage.cli.models": "cli/test_stage.py",
    "tutelage.cli.options": "cli/test_run.py",
    "tutelage.cli.plan": "cli/test_run.py",
    "tutelage.cli.recipes": "cli/test_plugins.py",
    "tutelage.cli.stage_files": "cli/test_stage.py",
    "tutelage.data.decontamination": "execution/test_data_actions.py",
    "tutelage.data.funnel": "data/test_oasst.py",
    "tutelage.data.intake": "execution/test_data_actions.py",
    "tutelage.data.preference_formats": "data/test_importing.py",
    "tutelage.data.tables": "data/test_importing.py",
    "tutelage.evaluation.bradley_terry": "evaluation/test_head_to_head.py",
    "tutelage.evaluation.contests": "evaluation/test_head_to_head.py",
    "tutelage.evaluation.correlations": "evaluation/test_agreement.py",
    "tutelage.evaluation.length_control": "evaluation/test_alpaca_eval.py",
    "tutelage.execution.actions": "execution/test_runner.py",
    "tutelage.execution.reporter": "cli/test_progress.py",
    "tutelage.execution.step_context": "execution/test_runner.py",
    "tutelage.exporting.copying": "cli/test_export.py",
    "tutelage.exporting.publishing": "cli/test_export.py",
    "tutelage.exporting.results": "exporting/test_card.py",
    "tutelage.files.field_help": "files/test_settings.py",
    "tutelage.files.strict_converter": "files/test_settings.py",
    "tutelage.files.type_words": "files/test_settings.py",
    "tutelage.planning.artifacts": "planning/test_pipelines.py",
    "tutelage.planning.checks": "planning/test_preflight.py",
    "tutelage.planning.estimate": "../plugins/test_api_runs.py",
    "tutelage.planning.model_checks": "planning/test_preflight.py",
    "tutelage.planning.objective_checks": "planning/test_trained_by.py",
    "tutelage.planning.problem_list": "planning/test_preflight.py",
    "tutelage.planning.roles": "planning/test_pipelines.py",
    "tutelage.planning.sources": "planning/test_lengths.py",
    "tutelage.planning.steps": "planning/test_pipelines.py",
    "tutelage.pipeline": "plugins/test_pipeline_checks.py",
    "tutelage.pipeline_steps": "plugins/test_pipeline_checks.py",
    "tutelage.planning.declared": "runs/test_declarations.py",
    "tutelage.planning.member_checks": "planning/test_rounds.py",
    "tutelage.planning.series": "planning/test_own_preferences.py",
    "tutelage.plugins.built_in_pipelines": "plugins/test_pipeline_checks.py",
    "tutelage.plugins.built_in": "plugins/test_registry.py",
    "tutelage.plugins.chat_hooks": "alpaca_eval/test_running.py",
    "tutelage.plugins.discovery": "plugins/test_registry.py",
    "tutelage.plugins.inspection": "plugins/test_registry.py",
    "tutelage.plugins.offers": "plugins/test_registry.py",
    "tutelage.plugins.stage_checks": "plugins/test_stages.py",
    "tutelage.preferences.stated_numbers": "preferences/test_score_parsing.py",
    "tutelage.preferences.statements": "preferences/test_score_parsing.py",
    "tutelage.recipe.data_section": "recipe/test_built_in_recipes.py",
    "tutelage.recipe.problems": "recipe/test_loading.py",
    "tutelage.recipe.schema": "recipe/test_built_in_recipes.py",
    "tutelage.results.measure_rows": "execution/test_measuring.py",
    "tutelage.results.run_results": "cli/test_evaluate.py",
    "tutelage.results.summary_tables": "results/test_summarise.py",
    "tutelage.results.training_data": "cli/test_data.py",
    "tutelage.runs.status": "cli/test_status.py",
    "tutelage.services.attempts": "services/test_caller.py",
    "tutelage.services.batch_journal": "services/test_batches.py",
    "tutelage.services.batch_service": "services/test_batches.py",
    "tutelage.services.booking": "services/test_caller.py",
    "tutelage.services.budget": "services/test_caller.py",
    "tutelage.services.gemini": "../plugins/gemini/test_gemini.py",
    "tutelage.services.pool": "services/test_caller.py",
    "tutelage.services.prices": "services/test_caller.py",
    "tutelage.services.problems": "services/test_caller.py",
    "tutelage.services.requests": "services/test_caller.py",
    "tutelage.services.shared": "services/test_caller.py",
    "tutelage.services.throttle": "services/test_caller.py",
    "tutelage.testing.described": "testing/test_kit.py",
    "tutelage.testing.fixtures": "testing/test_kit.py",
    "tutelage.testing.promises": "testing/test_kit.py",
    "tutelage.testing.reference": "testing/test_kit.py",
    "tutelage.testing.report": "testing/test_kit.py",
    "tutelage.testing.subject": "testing/test_kit.py",
    "tutelage.testing.trainings": "testing/test_kit.py",
    "tutelage.cli.explain": "cli/test_run.py",
    "tutelage.cli.free": "cli/test_run.py",
    "tutelage.planning.source_rows": "planning/test_made_from.py",
    "tutelage.results.changes_words": "cli/test_run.py",
    "tutelage.runs.changes": "execution/test_changes.py",
    "tutelage.runs.speeds": "cli/test_run.py",
    "tutelage.execution.prepared": "execution/test_variants.py",
    "tutelage.results.variants": "execution/test_variants.py",
    "tutelage.results.comparing": "cli/test_compare.py",
    "tutelage.results.selecting": "cli/test_compare.py",
    "tutelage.results.stored_verdicts": "cli/test_evaluate.py",
}
"""Modules without a test module of their own name, each with the test that exercises it, relative to tests/core."""


@cache
def graph() -> ImportGraph:
    """The imports of core and of the plugins, those inside functions and under ``TYPE_CHECKING`` included."""
    return build_graph(*(path.name for path in PACKAGES), cache_dir=None)


def mirrored(module: str) -> Path:
    """Where the test module of a module's own name belongs."""
    _, *rooms, name = module.split(".")
    return TESTS.joinpath(*rooms, f"test_{name}.py")


def exercises(test: Path, module: str) -> bool:
    """Whether a test imports something that reaches the module, runs its command, or gives its name to a process."""
    imported = {name for name in imported_by(test) if name in graph().modules}
    if test.parent.name == "cli":  # its fixtures call the command line, which imports the commands by name
        imported |= graph().find_descendants("tutelage.cli")
    reached = any(name == module or graph().chain_exists(importer=name, imported=module) for name in imported)
    return reached or f'"{module.removesuffix(".__main__")}"' in test.read_text(encoding="utf-8")


@pytest.mark.parametrize("root", [path.name for path in PACKAGES])
def test_no_modules_or_packages_of_one_package_import_each_other_in_a_cycle(root: str) -> None:
    packages = packages_in(graph(), root)
    assert root in packages
    found = {package: cycles(graph(), package) for package in packages}
    assert {package: groups for package, groups in found.items() if groups} == {}


def test_a_cycle_is_found_between_packages_and_between_modules() -> None:
    planted = ImportGraph()
    for importer, imported in (("p.a.one", "p.b.two"), ("p.b.three", "p.c"), ("p.c", "p.a.four"), ("p.c", "p.d")):
        planted.add_import(importer=importer, imported=imported)
    for module in ("p", "p.a", "p.b"):
        planted.add_module(module)
    assert cycles(planted, "p") == [["p.a", "p.b", "p.c"]]
    assert cycles(planted, "p.a") == []
    planted.add_import(importer="p.a.one", imported="p.a")
    planted.add_import(importer="p.a", imported="p.a.one")
    assert cycles(planted, "p.a") == [["p.a.__init__", "p.a.one"]]


def test_the_top_of_core_holds_what_a_plugin_author_reads_and_packages() -> None:
    assert {path.stem for path in CORE.glob("*.py")} == TOP


def test_every_core_module_has_a_test_in_the_mirrored_place_or_an_entry_in_covered_by() -> None:
    without = {module for module in modules_in(CORE) if not mirrored(module).exists()}
    assert without - COVERED_BY.keys() == set(), "write tests/core/ROOM/test_NAME.py, or name the test in COVERED_BY"
    assert COVERED_BY.keys() - without == set(), "these entries of COVERED_BY are no longer needed"


@pytest.mark.parametrize("module", sorted(COVERED_BY))
def test_the_test_that_covers_a_module_exercises_it(module: str) -> None:
    test = TESTS / COVERED_BY[module]
    assert test.is_file(), test
    assert exercises(test, module), f"{COVERED_BY[module]} neither imports nor runs {module}"


def test_no_two_public_classes_have_the_same_name() -> None:
    places = defaultdict(list)
    for package in PACKAGES:
        for file in package.rglob("*.py"):
            for name in public_classes(file):
                places[name].append(str(file.relative_to(ROOT)))
    assert "Registry" in places
    assert {name: sorted(files) for name, files in places.items() if len(files) > 1} == {}


def test_the_architecture_page_names_every_room_and_its_modules() -> None:
    """It keeps away a page that describes yesterday's rooms."""
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|$", (ROOT / "docs/architecture.md").read_text("utf-8"), re.M)
    rooms = {path.parent.name: path.parent for path in CORE.glob("*/__init__.py")}
    assert {room for room, _ in rows} == rooms.keys()
    for room, modules in rows:
        named = set(re.findall(r"`(\w+)`", modules))
        assert not named or named == {path.stem for path in rooms[room].glob("*.py")} - {"__init__"}, room
