"""The page is one file that requests nothing, shows hostile text as text, and says what is missing."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import random
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from html_elements import HOSTILE, Elements

from tutelage.errors import InputError
from tutelage.evaluation.intervals import Metric
from tutelage.installation import install_command
from tutelage.report.answers import ShownAnswer, ShownAnswers, ShownPrompt
from tutelage.report.contents import read_contents
from tutelage.report.packing import LONGEST
from tutelage.report.page import missing_libraries, page, write_report
from tutelage.results.summary import VariantResult

needs_libraries = pytest.mark.skipif(bool(missing_libraries()), reason="the page needs the extra `report`")


@needs_libraries
def test_the_page_has_its_parts_and_requests_nothing(finished: Path) -> None:
    path = write_report(finished)
    assert path == finished / "report.html"
    elements = Elements(path.read_text(encoding="utf-8"))
    assert elements.open == []
    ids = {attributes.get("id") for _, attributes in elements.found}
    assert {"gains", "models", "matrix", "judging", "training", "data", "cost", "reader", "recipe"} <= ids
    for tag, attributes in elements.found:
        assert tag not in {"link", "iframe", "img", "object", "embed", "base", "form", "audio", "video", "image", "use"}
        assert not {name for name in attributes if name.startswith("on") or name in ("src", "style", "srcdoc")}
        assert (attributes.get("href") or "#").startswith("#")
        assert attributes.get("xlink:href") is None
    targets = {attributes["href"] for tag, attributes in elements.found if tag == "a"}
    assert {"#gains", "#reader", "#read?a=2&b=1&sort=gain&show=all"} <= targets
    assert {target for target in targets if target and not target.startswith("#read?")} <= {f"#{id}" for id in ids}


@needs_libraries
def test_the_policy_allows_the_script_and_the_style_of_the_page_by_their_hashes_alone(finished: Path) -> None:
    text = page(read_contents(finished))
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]+)"', text)
    sources = dict(one.split(" ", 1) for one in html.unescape(policy).split("; "))
    assert sources["default-src"] == "'none'" and sources.keys() == {
        "default-src",
        "style-src",
        "script-src",
        "base-uri",
        "form-action",
    }
    for source, tag in (("script-src", "script"), ("style-src", "style")):
        [content] = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert sources[source] == f"'sha256-{digest}'"
    assert text.index("Content-Security-Policy") < text.index("<style>")


@needs_libraries
def test_hostile_text_is_text_everywhere(finished: Path, rewrite: Callable[..., None]) -> None:
    def spoil(*keys: str) -> Callable[[dict[str, Any]], None]:
        return lambda row: row.update(dict.fromkeys(keys, HOSTILE))

    rewrite("evaluation/seed-0/prompts.jsonl", spoil("text"))
    rewrite("seed-0/M1/samples/held-out-greedy.jsonl", spoil("text", "detail"))
    rewrite("evaluation/seed-0/M1/gold-greedy.jsonl", spoil("reason", "raw"))
    before = page(read_contents(finished))
    contents = evolve(
        read_contents(finished),
        name=HOSTILE,
        recipe_name=HOSTILE,
        recipe=HOSTILE,
        warnings=(HOSTILE,),
        sentences=(HOSTILE, HOSTILE),
        versions={HOSTILE: HOSTILE},
    )
    text = page(contents)
    names = [tag for tag, _ in Elements(text).found]
    assert [tag for tag in names if tag in ("script", "title", "img")] == ["title", "script", "script"]
    assert names.count("script") == [tag for tag, _ in Elements(before).found].count("script")
    assert "alert(1)&lt;/script&gt;" in text and "U+202E" in text
    assert not set(text) & set("\u202e\x00\x1b\x07")


@needs_libraries
def test_no_line_breaks_within_an_interval(finished: Path) -> None:
    contents = evolve(read_contents(finished), sentences=("M1 gains +0.57 [+0.34, +0.80] over M0 [its start].",))
    assert "M1 gains +0.57\u00a0[+0.34,\u00a0+0.80] over M0 [its start]." in page(contents)


@needs_libraries
def test_variants_of_the_recipe_are_shown_with_their_difference(finished: Path) -> None:
    contents = read_contents(finished)
    assert contents.summary is not None
    model = contents.summary.model("M2/self-reward")
    base = VariantResult("base", model.id, model.metrics)
    other = VariantResult("dpo.beta=0.3", model.id, model.metrics, Metric(0.25, -0.5, 1.0, 6), 0.421)
    text = page(evolve(contents, summary=evolve(contents.summary, variants=(other, base))))
    assert "M2/self-reward@dpo.beta=0.3" in text and "+0.25 [-0.50, +1.00]" in text and "0.421" in text


@needs_libraries
def test_the_same_run_gives_the_same_page(finished: Path) -> None:
    assert page(read_contents(finished)) == page(read_contents(finished))


def test_without_the_libraries_the_error_says_how_to_install_them(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)  # an import of it fails
    command = re.escape(install_command("report"))
    with pytest.raises(InputError, match=f"needs vl-convert-python; run: {command}$"):
        write_report(finished)
    assert not (finished / "report.html").exists()


@needs_libraries
@pytest.mark.slow
def test_the_page_of_805_prompts_and_12_models_with_hostile_answers_is_made_within_5_seconds(finished: Path) -> None:
    """Each answer has a script and control characters, and some have 1 MB. The texts are random: gzip saves little."""
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnop", k=6)) for _ in range(5000)]

    def answer(number: int) -> ShownAnswer:
        text = " ".join(draw.choices(words, k=85)) + HOSTILE
        return ShownAnswer(
            "x" * 1_000_000 + text if number % 1000 == 0 else text, "answered", HOSTILE, 3.0, HOSTILE, "answered"
        )

    names = tuple(f"M{number}" for number in range(12))
    rows = tuple(
        ShownPrompt(f"{row:016x}", 0, f"{row} {HOSTILE}", tuple(answer(12 * row + model) for model in range(12)))
        for row in range(805)
    )
    texts = [one.text[:LONGEST] for row in rows for one in row.answers if one]
    gzipped = len(gzip.compress("\n".join(texts).encode()))
    contents = read_contents(finished)
    answers = ShownAnswers(names, (), rows, {0: names})
    without = len(page(contents))
    started = time.process_time()
    text = page(evolve(contents, summary=None, gains=(), answers=answers))
    seconds = time.process_time() - started
    print(f"{len(text):,} bytes, gzipped answers {gzipped:,}, {seconds:.1f} s of CPU")
    assert len(text) <= max(5_000_000, 2 * gzipped + without)
    assert seconds < 5
    assert [tag for tag, _ in Elements(text).found].count("script") == 2
    assert not set(text) & set("\u202e\x00\x1b\x07")
