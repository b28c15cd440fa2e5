"""Fixtures that every test may use."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tutelage.plugins.registry import Registry
from tutelage.recipe.loading import from_values
from tutelage.recipe.schema import Recipe

REPOSITORY = Path(__file__).parent.parent

# The libraries of Hugging Face read it once, when they are imported. No test asks the hub: without a network, a single
# request to it is repeated for 20 seconds.
os.environ["HF_HUB_OFFLINE"] = "1"

# A property fails by its examples, never because a machine is slow.
settings.register_profile("tutelage", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tutelage")


def pytest_configure() -> None:
    """Receive SIGINT also as a background job of a shell, which ignores it: processes that tests start inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def unsynced_files() -> Iterator[None]:
    """The process of the tests does not wait for the disk, which takes a fifth of its time.

    Only a machine that loses its power could show a difference: a file is complete without ``fsync`` if only the
    process is killed. The processes that tests start, which are also the ones that are killed, do wait.
    """
    with pytest.MonkeyPatch.context() as system:
        system.setattr(os, "fsync", os.fstat)  # it fails for a closed descriptor as fsync does
        yield


@pytest.fixture(scope="session", autouse=True)
def users_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No fixture of a module or of the session touches the user's ledger and cache."""
    with pytest.MonkeyPatch.context() as environment:
        folder = tmp_path_factory.mktemp("user")
        environment.setenv("TUTELAGE_LEDGER", str(folder / "ledger.db"))
        environment.setenv("TUTELAGE_CACHE", str(folder / "cache"))
        yield


@pytest.fixture(autouse=True)
def ledger_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test touches the user's ledger."""
    path = tmp_path / "user-ledger.db"
    monkeypatch.setenv("TUTELAGE_LEDGER", str(path))
    return path


@pytest.fixture(autouse=True)
def cache_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the user's cache."""
    path = tmp_path.with_name(f"{tmp_path.name}-cache")
    path.mkdir()
    monkeypatch.setenv("TUTELAGE_CACHE", str(path))
    return path


@pytest.fixture
def shadowing_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a module that no process may import: it has the name of one of the standard library."""
    folder = tmp_path / "shadowing"
    folder.mkdir()
    (folder / "json.py").write_text("raise SystemExit('json.py of the current folder was imported')")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def numbers_registry() -> Registry:
    """A registry with the echoing world alone, under the name ``numbers``."""
    import echoing_world

    registry = Registry.empty()
    registry.register(echoing_world, "numbers")
    return registry


@pytest.fixture
def make_recipe() -> Callable[..., Recipe]:
    """Make a recipe on the echoing world; keyword arguments replace top-level keys."""
    from recipes import numbers_recipe

    return lambda **changes: from_values(numbers_recipe(**changes))


@pytest.fixture
def shared_data() -> Path:
    """Real published data beside the checkout; the test is skipped where it is not there."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there: published data to test against is no part of the project")
    return folder
