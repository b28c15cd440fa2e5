"""The Markdown of model cards: texts are escaped, and the metadata of a card can be read back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tutelage.errors import InputError
from tutelage.exporting.model_card import (
    card,
    code,
    fenced,
    hub_name,
    inherited_metadata,
    objective_table,
    plain,
    table,
)
from tutelage.objectives import Lora, Sft


def test_metadata_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(card({"license": "mit", "tags": ["a"], "base_model": "me/base"}, ["# Title", "", "Text."]))
    assert path.read_text().endswith("---\n\n# Title\n\nText.\n")
    assert inherited_metadata(path) == {"license": "mit", "base_model": "me/base"}


def test_a_card_without_metadata_gives_none(tmp_path: Path) -> None:
    assert inherited_metadata(tmp_path / "README.md") == {}
    (tmp_path / "README.md").write_text("# Only words\n")
    assert inherited_metadata(tmp_path / "README.md") == {}


def test_the_layers_of_an_adapter_are_named_as_text() -> None:
    table = objective_table(Sft(lora=Lora(target_modules=("q_proj", "v_proj")), weight_decay=0.1))
    assert "target_modules q_proj and v_proj |" in table.replace("\\", "")
    assert "| weight_decay | 0.1 |" in table.replace("\\", "")


def test_metadata_that_is_not_yaml_is_an_error_that_names_the_card(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\na: [\n---\n")
    with pytest.raises(InputError, match=r"README.md: the metadata of the model card is not YAML"):
        inherited_metadata(tmp_path / "README.md")


def test_nothing_in_a_text_is_markup() -> None:
    assert plain("a | b\n<b>`c` *d* [e](f)") == "a \\| b &lt;b&gt;\\`c\\` \\*d\\* \\[e\\](f)"
    assert code("a`b\nc") == "`ab c`"
    assert table(("x",), [("1|2",)]).splitlines()[-1] == "| 1\\|2 |"


def test_a_block_cannot_be_closed_from_within() -> None:
    assert fenced("a\n```\nb", "yaml") == "````yaml\na\n```\nb\n````"


def test_a_name_of_the_hub_is_owner_and_name_and_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert hub_name("microsoft/phi-2") == "microsoft/phi-2"
    assert [hub_name(name) for name in ("M1", "/a/b", "runs/x/M1", "", "a b/c")] == [None] * 5
    (tmp_path / "weights/phi").mkdir(parents=True)
    assert hub_name("weights/phi") is None
