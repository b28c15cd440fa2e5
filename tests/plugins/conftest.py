"""Fixtures for the tests of plugins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from api_servers import ApiServer, running


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., ApiServer]]:
    """``start_server("openai", "--faults", "0.3")``: ended with the test."""
    with ExitStack() as servers:

        def start(protocol: str, *options: str) -> ApiServer:
            log = tmp_path / f"{protocol}-{len(list(tmp_path.iterdir()))}.jsonl"
            return servers.enter_context(running(protocol, log, *options))

        yield start
