"""Overrides of a settings class: typed like its fields, and none of them is required."""

import pytest
from attrs import evolve, frozen

from tutelage.errors import InputError
from tutelage.files.jsonl import converter
from tutelage.files.overrides import Overrides, as_overrides, overrides_of
from tutelage.files.settings import structure


@frozen
class Inner:
    width: int = 1


@frozen
class Settings:
    name: str
    rate: float = 0.5
    inner: Inner | None = None


@frozen
class Holder:
    own: Overrides[Settings]


def test_overrides_have_the_types_of_the_fields_and_require_none() -> None:
    own = structure(Holder, {"own": {"rate": 2, "inner": {"width": 3}}}, "here").own
    assert (own, type(own)) == ({"rate": 2.0, "inner": Inner(3)}, Overrides)
    assert isinstance(own["rate"], float)
    assert evolve(Settings("a"), **own) == Settings("a", 2.0, Inner(3))
    assert structure(Holder, {"own": {}}, "here").own == {}


def test_every_wrong_override_is_named_with_its_key() -> None:
    with pytest.raises(InputError) as caught:
        structure(Holder, {"own": {"rat": 2, "name": 3, "inner": {"width": "x"}}}, "here")
    assert str(caught.value).splitlines() == [
        "here: own.rat: unknown key; did you mean 'rate'?",
        "here: own.name: expected text, got 3",
        "here: own.inner.width: expected a whole number, got text 'x'",
    ]
    with pytest.raises(InputError, match=r"here: own: expected a mapping \(name, rate, inner\), got 3"):
        structure(Holder, {"own": 3}, "here")


def test_a_whole_object_overrides_every_field() -> None:
    whole = {"name": "a", "rate": 0.5, "inner": Inner(2)}
    assert as_overrides(Settings("a", inner=Inner(2))) == whole
    assert structure(overrides_of(Settings), Settings("a", inner=Inner(2)), "here") == whole


def test_overrides_are_written_as_plain_values() -> None:
    assert converter().unstructure(Holder(Overrides(inner=Inner(3)))) == {"own": {"inner": {"width": 3}}}
