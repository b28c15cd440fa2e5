"""The tiny student of tutelage, and a stand-in for vLLM's server that runs it on a CPU."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving import context_with
from tutelage import Context, Model, Registry
from tutelage_vllm import answering

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(autouse=True)
def logs_of_failed_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The logs of servers that fail are kept, in the folder of the test."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # of processes that the test starts
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture(scope="session")
def student() -> Model:
    """The pretrained student of the plugin ``tiny``."""
    named = Registry.discover(environment={}).find("models", "tiny/student")
    assert named is not None
    return Model("vllm", named.location)


@pytest.fixture(scope="module")
def served() -> Iterator[Context]:
    """The context of one server that the tests of a module share."""
    context = context_with()
    yield context
    answering.release_all()


@pytest.fixture
def stopped() -> Iterator[None]:
    """Stops the server of the test."""
    yield
    answering.release_all()
