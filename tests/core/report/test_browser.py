"""The page in headless Chromium: it opens, draws, filters, requests nothing and logs no error."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tutelage.report.page import missing_libraries, write_comparison, write_report
from tutelage.results.comparing import compare_models
from tutelage.results.selecting import select_models

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
BROWSER = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), "")
pytestmark = [
    pytest.mark.skipif(not BROWSER, reason=f"no Chromium: none of {', '.join(NAMES)}, and CHROMIUM is not set"),
    pytest.mark.skipif(bool(missing_libraries()), reason="the page needs the extra `report`"),
]
HOSTILE = "</script><script>document.title = 'broken'</script><img src=http://localhost:1/x>\u202e\x00"


def opened(page: Path, fragment: str, folder: Path) -> tuple[str, str]:
    """Return the elements of a page as HTML after its script ran, and the browser's log."""
    options = ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}", "--virtual-time-budget=5000")
    logging = ("--enable-logging=stderr", "--log-level=0", "--dump-dom")
    command = [BROWSER, *options, *logging, f"{page.as_uri()}{fragment}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout, done.stderr


def test_the_reader_shows_and_filters_the_answers_without_an_error(
    finished: Path, tmp_path: Path, rewrite: Callable[..., None]
) -> None:
    rewrite("seed-0/M1/samples/held-out-greedy.jsonl", lambda row: row.update(text=HOSTILE + "x" * 30_000))
    page = write_report(finished)
    text, log = opened(page, "", tmp_path / "browser")
    assert "6 of 6 matching prompts are shown; the page has 6." in text
    assert text.count('<article class="prompt">') == 6 and text.count("<svg") > 3
    assert "CONSOLE" not in log, log
    assert "<title>golden: report of a tutelage run</title>" in text and "<img" not in text
    assert "&lt;script&gt;document.title" in text and '<span class="code">U+202E</span>' in text
    assert re.search(
        r"Cut: the answer has 30,\d+ characters; the whole one is in seed-0/M1/samples/held-out-greedy", text
    )
    filtered, log = opened(page, "#read?a=1&b=0&sort=loss&show=lost", tmp_path / "browser")
    assert filtered.count('<article class="prompt">') < 6 and "CONSOLE" not in log


def test_the_page_that_compares_runs_opens_and_sorts_without_an_error(finished: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(finished, finished.with_name("other")))
    models = select_models([(finished, ""), (other, "")])
    page = tmp_path / "compared.html"
    write_comparison(models, compare_models(models, "gold_score"), page)
    text, log = opened(page, "#read?a=5&b=1&sort=gain&show=all", tmp_path / "browser")
    assert "6 of 6 matching prompts are shown; the page has 6." in text
    assert text.count("<svg") == 3 and "CONSOLE" not in log, log
    assert 'class="card a"' in text and "difference of scores 0" in text
