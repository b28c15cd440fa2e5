"""Plain values become settings, or an error with the value, its location and the expected type."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest
from attrs import asdict, field, frozen, validators
from hypothesis import assume, given, settings
from hypothesis import strategies as some

from tutelage.errors import InputError
from tutelage.files.settings import SettingField, describe_settings, optional_settings, structure
from tutelage.objectives import Dpo, Sft
from tutelage.records import Prompt


class Colour(Enum):
    RED = "red"
    GREEN = "green"


@frozen
class Lora:
    r: int = field(default=16, validator=validators.ge(1), metadata={"help": "Rank."})
    dropout: float = field(default=0.0, validator=validators.ge(0.0))


@frozen
class Settings:
    device: str
    batch: int = 8
    rate: float = 0.5
    merge: bool = True
    lora: Lora | None = None
    folder: Path = Path()
    dtype: Literal["bfloat16", "float32"] = "float32"
    colour: Colour = Colour.RED
    stops: tuple[str, ...] = ()
    sizes: list[int] = field(factory=list)
    window: tuple[int, float] | None = None
    options: Mapping[str, int] = field(factory=dict)
    extra: Mapping[str, Any] = field(factory=dict)
    adapters: tuple[Lora, ...] = ()
    seed: int | str = 0
    limit: float | None = None


def problems(values: Any, cls: type = Settings) -> list[str]:
    with pytest.raises(InputError) as caught:
        structure(cls, values, "recipe a.yaml")
    lines = str(caught.value).splitlines()
    assert all(line.startswith("recipe a.yaml: ") for line in lines)
    return [line.removeprefix("recipe a.yaml: ") for line in lines]


def test_every_supported_kind_of_field_is_structured() -> None:
    values = {
        "device": "cpu",
        "rate": 1,
        "lora": {"r": 4},
        "folder": "runs/a",
        "dtype": "bfloat16",
        "colour": "green",
        "stops": ["a", "b"],
        "sizes": [1, 2],
        "window": [3, 1],
        "options": {"a": 1},
        "extra": {"any": ["thing"]},
        "adapters": [{"r": 1}, {"dropout": 0.5}],
        "seed": "random",
    }
    made = structure(Settings, values, "here")
    assert made == Settings(
        device="cpu",
        rate=1.0,
        lora=Lora(r=4),
        folder=Path("runs/a"),
        dtype="bfloat16",
        colour=Colour.GREEN,
        stops=("a", "b"),
        sizes=[1, 2],
        window=(3, 1.0),
        options={"a": 1},
        extra={"any": ["thing"]},
        adapters=(Lora(r=1), Lora(dropout=0.5)),
        seed="random",
    )
    assert isinstance(made.rate, float)


def test_what_is_already_made_is_taken_as_it_is() -> None:
    lora = Lora(r=2)
    assert structure(Settings, {"device": "cpu", "lora": lora}, "here").lora is lora
    assert structure(Lora, lora, "here") is lora


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("batch", "3", "expected a whole number, got text '3'; write it without quotes"),
        ("batch", True, "expected a whole number, got true"),
        ("batch", 1.0, "expected a whole number, got 1.0"),
        ("batch", None, "expected a whole number, got nothing"),
        ("rate", "5e-5", "expected a number, got text '5e-5'; write it without quotes, as 5e-05"),
        ("rate", False, "expected a number, got false"),
        ("rate", float("nan"), "expected a finite number, got nan"),
        ("limit", "1e3", "expected a number or nothing, got text '1e3'; write it without quotes, as 1000.0"),
        ("merge", 1, "expected true or false, got 1"),
        ("merge", "yes", "expected true or false, got text 'yes'"),
        ("device", 0, "expected text, got 0"),
        ("folder", 3, "expected a path, got 3"),
        ("dtype", "float23", "expected 'bfloat16' or 'float32', got text 'float23'; did you mean 'float32'?"),
        ("colour", "blue", "expected 'red' or 'green', got text 'blue'"),
        ("stops", "stop", "expected a list of text, got text 'stop'"),
        ("window", [1], "expected a list of 2: a whole number, a number, got 1 of them"),
        ("options", [1], "expected a mapping, got a list"),
        ("seed", 1.5, "expected a whole number or text, got 1.5"),
        ("lora", 3, "expected a mapping (r, dropout) or nothing, got 3"),
    ],
)
def test_a_value_of_the_wrong_type_is_named_with_what_was_expected_and_given(
    key: str, value: Any, message: str
) -> None:
    assert problems({"device": "cpu", key: value}) == [f"{key}: {message}"]


def test_a_misspelled_key_names_the_nearest_one() -> None:
    assert problems({"device": "cpu", "bach": 3}) == ["bach: unknown key; did you mean 'batch'?"]


def test_a_missing_setting_says_what_it_should_be() -> None:
    assert problems({}) == ["device: missing; expected text"]


def test_a_key_that_is_not_text_is_unknown_and_nothing_breaks() -> None:
    (problem,) = problems({"device": "cpu", 3: 4})
    assert problem.startswith("3: unknown key")


def test_all_problems_are_reported_at_once_each_with_its_path() -> None:
    values = {
        "device": 1,
        "lora": {"rr": 3, "dropout": "x"},
        "sizes": [1, "2", 3, None],
        "options": {"a": "b"},
        "adapters": [{}, {"r": 0}, {"r": 1.5}],
    }
    assert problems(values) == [
        "device: expected text, got 1",
        "lora.rr: unknown key; did you mean 'r'?",
        "lora.dropout: expected a number, got text 'x'",
        "sizes[1]: expected a whole number, got text '2'; write it without quotes",
        "sizes[3]: expected a whole number, got nothing",
        "options.a: expected a whole number, got text 'b'",
        "adapters[1].r: 'r' must be >= 1: 0",
        "adapters[2].r: expected a whole number, got 1.5",
    ]


def test_every_failing_validator_is_reported_at_its_own_key() -> None:
    assert problems({"r": 0, "dropout": -1.0}, Lora) == [
        "r: 'r' must be >= 1: 0",
        "dropout: 'dropout' must be >= 0.0: -1.0",
    ]


def test_the_message_of_a_validator_of_ones_own_is_kept() -> None:
    @frozen
    class Even:
        n: int = field()

        @n.validator
        def _is_even(self, _: Any, value: int) -> None:
            if value % 2:
                raise ValueError(f"{value} is odd")

    assert problems({"n": 3}, Even) == ["n: 3 is odd"]


def test_a_check_over_the_whole_class_is_reported_at_the_class() -> None:
    @frozen
    class Range:
        low: int
        high: int

        def __attrs_post_init__(self) -> None:
            if self.low > self.high:
                raise ValueError("low is above high")

    assert problems({"low": 2, "high": 1}, Range) == ["low is above high"]


@pytest.mark.parametrize("value", [None, [], "text", 3])
def test_anything_but_a_mapping_is_refused_where_a_class_is_asked_for(value: Any) -> None:
    (problem,) = problems(value, Lora)
    assert problem.startswith("expected a mapping (r, dropout), got ")


def test_a_union_of_classes_takes_the_one_that_knows_the_keys() -> None:
    @frozen
    class Step:
        objective: Sft | Dpo

    assert structure(Step, {"objective": {"beta": 0.2}}, "here").objective == Dpo(beta=0.2)
    assert problems({"objective": {"beta": "x", "epochs": 1}}, Step) == [
        "objective.beta: expected a number, got text 'x'"
    ]


def test_a_union_of_classes_is_never_guessed() -> None:
    @frozen
    class Step:
        objective: Sft | Dpo

    assert problems({"objective": {"epochs": 1}}, Step) == [
        "objective: ambiguous: this can be Sft or Dpo; give a key that only one of them has"
    ]


def test_a_default_that_depends_on_other_fields_is_left_to_the_class() -> None:
    assert structure(Prompt, {"text": "Sort."}, "here") == Prompt("Sort.")


def test_settings_are_described_with_type_default_and_help_and_nested_names() -> None:
    described = {setting.name: setting for setting in describe_settings(Settings)}
    assert described["device"] == SettingField("device", "text", None, "")
    assert described["lora"].type == "mapping (r, dropout) or nothing"
    assert described["lora.r"] == SettingField("lora.r", "whole number", "16", "Rank.")
    assert described["colour"] == SettingField("colour", "'red' or 'green'", "'red'", "")
    assert described["sizes"].default == "[]"
    assert list(described)[:3] == ["device", "batch", "rate"]


SCALARS = some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=5)
VALUES = some.recursive(SCALARS, lambda inner: some.lists(inner) | some.dictionaries(some.text(max_size=5), inner))
KEYS = some.sampled_from([setting.name for setting in describe_settings(Settings) if "." not in setting.name])


@settings(max_examples=50)
@given(some.dictionaries(KEYS, VALUES))
def test_any_values_become_settings_or_an_error_with_a_location(values: dict[str, Any]) -> None:
    try:
        made = structure(Settings, values, "file")
    except InputError as error:
        assert all(line.startswith("file: ") for line in str(error).split("\n"))
    else:
        assert {key: asdict(made)[key] for key in values if key in ("device", "batch", "merge", "seed")} == {
            key: value for key, value in values.items() if key in ("device", "batch", "merge", "seed")
        }


@settings(max_examples=50)
@given(VALUES)
def test_a_class_is_never_made_from_something_else_than_a_mapping(value: Any) -> None:
    assume(value != {} and not (isinstance(value, dict) and set(value) <= {"r", "dropout"}))
    with pytest.raises(InputError):
        structure(Lora, value, "file")


def test_values_for_an_owner_without_settings_are_refused_by_their_names() -> None:
    @frozen
    class Own:
        words: int = 3

    assert optional_settings(Own, {"words": 4}, "settings", "it") == Own(4)
    assert optional_settings(None, {}, "settings", "it") is None
    with pytest.raises(InputError, match=r"^settings: the measure x has no settings, but got a, b; leave them out$"):
        optional_settings(None, {"a": 1, "b": 2}, "settings", "the measure x")
