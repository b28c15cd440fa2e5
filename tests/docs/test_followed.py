"""Every command of the followed pages is one of the command line, and ``make prove`` follows it.

``tests/prove/pages.py`` and ``tests/prove/write_a_plugin.py`` run the commands in order. Here they are only parsed.
"""

from __future__ import annotations

import json
import re
import runpy
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
from command_words import parsed
from tests.prove.commands_of_pages import PAGES, PLUGIN_PAGE, RUN_BY_CI, STAND_INS, Followed, command_of, followed

ROOT = Path(__file__).parents[2]
FOLLOWED = (*PAGES, PLUGIN_PAGE)
COMMANDS = {page: [command_of(one.text) for one in followed(page) if one.kind == "sh"] for page in FOLLOWED}
TARGETS = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
INDENTED = re.compile(r"^    (tutelage [^\n\\]*(?:\\\n[^\n\\]*)*)$", re.MULTILINE)
SITE = runpy.run_path(str(ROOT / "docs/conf.py"))["NAVIGATION"]


@pytest.mark.parametrize("page", FOLLOWED)
def test_every_command_of_a_followed_page_is_known(page: str) -> None:
    assert len(COMMANDS[page]) > 8
    for command in COMMANDS[page]:
        program, *words = shlex.split(command)
        if program == "tutelage":
            assert parsed(words)
        elif program == "make":
            assert words[0] in TARGETS
        else:
            assert program in ("source", "pip", "python"), command


def test_an_unknown_option_is_found() -> None:
    with pytest.raises(click.NoSuchOption):
        parsed(["plan", "embedded", "--stepps"])


@pytest.mark.parametrize(
    ("output", "is_shown"),
    [
        ("first\nsecond\nlast\n", True),
        ("first\nlast\n", True),
        ("first\nsecond\n", False),
        ("another\nfirst\nlast\n", False),
    ],
)
def test_three_dots_on_a_page_are_any_lines_and_the_others_are_exact(output: str, is_shown: bool) -> None:
    assert Followed("sh", "tutelage plan", output="first\n...\nlast\n").prints(output) is is_shown


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/*.md")), ids=lambda page: page.name)
def test_every_command_of_another_page_is_known(page: Path) -> None:
    for command in INDENTED.findall(page.read_text(encoding="utf-8")):
        words = shlex.split(re.split(r"[|>;] | #", command.replace("\\\n", " "))[0])
        assert words[0] == "tutelage" and parsed(words[1:])


def test_every_stand_in_and_every_exception_belongs_to_a_command() -> None:
    commands = [command for page in PAGES for command in COMMANDS[page]]
    assert [one for one in (*STAND_INS, *RUN_BY_CI) if not any(command.startswith(one) for command in commands)] == []
    outside = [one for one in commands if "transformers:" in one or "small-gpu" in one]
    assert len(outside) >= 6
    assert [one for one in outside if not one.startswith(tuple(STAND_INS))] == []


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    pages = {str(path.relative_to(ROOT).with_suffix("")) for path in (ROOT / "docs").rglob("*.md")}
    listed = [page for group in SITE.values() for page in group]
    assert pages <= set(listed)
    assert len(listed) == len(set(listed))
    assert [page for page in listed if not (ROOT / f"{page}.md").is_file()] == []


def test_external_links_are_well_formed() -> None:
    link = re.compile(r"\]\((https?://[^)]*)\)")
    found = [url for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")) for url in link.findall(page.read_text())]
    assert len(found) > 5
    assert [url for url in found if not re.fullmatch(r"https?://[\w.-]+(:\d+)?(/[^\s()<>]*)?", url)] == []


@pytest.mark.slow
def test_the_site_is_built_without_a_broken_link_and_its_search_finds_every_page_with_a_term(tmp_path: Path) -> None:
    from sphinx.cmd.build import main

    assert main(["-b", "html", "-W", "--keep-going", "-q", "-c", str(ROOT / "docs"), str(ROOT), str(tmp_path)]) == 0
    assert (tmp_path / "README.html").is_file() and (tmp_path / "search.html").is_file()
    index = re.fullmatch(r"Search\.setIndex\((.*)\)", (tmp_path / "searchindex.js").read_text(encoding="utf-8"))
    assert index is not None
    pages = {page: (ROOT / f"{page}.md").read_text(encoding="utf-8") for group in SITE.values() for page in group}
    for query in ("teacher-demonstration", "own-preferences", "train_step", "data.prompts", "kill -9", "Spearman"):
        expected = {page for page, text in pages.items() if query in text}
        assert expected and expected <= searched(query, json.loads(index[1])), query


def searched(query: str, index: dict[str, Any]) -> set[str]:
    """The pages that Sphinx's search shows for a query: those with the stems of all words, except for common words."""
    from sphinx.search.en import SearchEnglish

    language = SearchEnglish({})
    words = [word for word in language.split(query.lower()) if word not in language.stopwords and not word.isdigit()]
    found = []
    for stem in map(language.stem, words):
        entries = [index[kind].get(stem, []) for kind in ("terms", "titleterms")]
        found.append({number for one in entries for number in (one if isinstance(one, list) else [one])})
    return {index["docnames"][number] for number in set.intersection(*found)}
