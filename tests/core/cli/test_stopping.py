"""Ctrl-C stops a run at a safe point, and the run can be continued."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from recipes import numbers_recipe

from tutelage.cli.stopping import stop_on_interrupt
from tutelage.errors import Interrupted
from tutelage.execution.runner import run
from tutelage.plugin.registry import Registry
from tutelage.recipe.schema import Recipe


def test_the_first_ctrl_c_asks_and_the_second_ends_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)
    with stop_on_interrupt() as asked:
        assert not asked()
        os.kill(os.getpid(), signal.SIGINT)
        assert asked()
        assert "press Ctrl-C again to stop immediately" in capfd.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def artifacts(folder: Path) -> dict[str, bytes]:
    names = ("run.json", "steps.jsonl", ".lock")
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in names]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("item_by_item", [False, True])
def test_a_run_that_is_stopped_again_and_again_ends_with_the_same_artifacts(
    tmp_path: Path, numbers_registry: Registry, make_recipe: Callable[..., Recipe], item_by_item: bool
) -> None:
    data = numbers_recipe()["data"]
    data["prompts"]["count"] = 6  # each item of an API is made durable separately, which is slow
    changes = {"pipelines": {"self-reward": None}, "controls": {}, "evaluation": None, "data": data, "chunk": 2}
    recipe = make_recipe(**changes)
    registry = _item_by_item(numbers_registry) if item_by_item else numbers_registry
    run(recipe, tmp_path / "undisturbed", registry)
    stops = 0

    def asked_after(calls: int) -> Callable[[], bool]:
        left = [calls]

        def asked() -> bool:
            left[0] -= 1
            return left[0] < 0

        return asked

    while True:
        try:
            run(recipe, tmp_path / "stopped", registry, cancelled=asked_after(3 + stops))
        except Interrupted:
            stops += 1
        else:
            break
    assert stops > 3
    assert artifacts(tmp_path / "stopped") == artifacts(tmp_path / "undisturbed")


def _item_by_item(registry: Registry) -> Registry:
    """The same plugin, declared ``item_by_item`` like an API: each result is stored separately."""
    import types

    import echoing_world
    from attrs import evolve

    from tutelage.hookspecs import hookimpl

    info: Any = registry.info("numbers")
    world = types.ModuleType("numbers_by_item")
    world.__dict__.update(vars(echoing_world))
    world.__dict__["describe"] = hookimpl(lambda: evolve(info, item_by_item=True))
    other = Registry.empty()
    other.register(world, "numbers")
    return other


def test_a_second_ctrl_c_ends_the_command_with_a_message_how_to_continue(
    monkeypatch: pytest.MonkeyPatch, invoke: Callable[..., Any], recipe_file: Callable[..., Path], small: dict[str, Any]
) -> None:
    import echoing_world

    from tutelage.hookspecs import hookimpl

    @hookimpl
    def impatient(prompts: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        yield from prompts

    monkeypatch.setattr(echoing_world, "generate_candidates", impatient)
    result = invoke("run", recipe_file(**small), "--quiet")
    assert result.exit_code == 130
    assert result.stderr.endswith(
        "stopped immediately; finished work is kept, and the same command continues the run\n"
    )
