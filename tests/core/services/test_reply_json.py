"""The JSON of a reply: complete but odd replies are unreadable, and incomplete ones are tried again."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from tutelage.services.problems import Transient, Unreadable
from tutelage.services.reply_json import list_at, log_probabilities, object_at, parse_reply, text_at

REPLY = {"text": 'a "quoted" \\ word \u00e9 \U0001f600 \n', "on": True, "numbers": [1, -2.5e3, None], "deep": {"a": {}}}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_every_encoding_of_json_is_read(encoding: str) -> None:
    assert parse_reply(json.dumps(REPLY, ensure_ascii=False).encode(encoding)) == REPLY


def test_a_reply_that_is_cut_anywhere_is_tried_again() -> None:
    for text in (json.dumps(REPLY), json.dumps(REPLY, ensure_ascii=False), json.dumps(REPLY, indent=2)):
        body = text.encode()
        for end in range(1, len(body)):
            with pytest.raises(Transient, match=r"not complete JSON|not JSON"):
                parse_reply(body[:end])


@pytest.mark.parametrize("body", [b"", b"  ", b"{}", b"<html>502</html>", b"upstream error", b'"text"', b"4", b"null"])
def test_what_is_no_reply_is_tried_again(body: bytes) -> None:
    with pytest.raises(Transient):
        parse_reply(body)


@pytest.mark.parametrize(
    "body",
    [
        b'[{"choices": []}]',
        b'{"a": 1} {"a": 2}',
        b'{"a": [' + b"0," * 400_000 + b"0]}",
        b'{"a": ' + b"[[]," * 100 + b"[]," * 400_000 + b"0" + b"]" * 100 + b"}",
        b'{"a": 1}}',
        b"{'a': 1}",
        b'{"a": 1, b: 2}',
        b'data: {"a": 1}\n\ndata: [DONE]\n\n',
        b": comment\n\ndata: {}\n\n",
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a": ' * 50_000 + b"1" + b"}" * 50_000,
    ],
)
def test_a_complete_but_odd_reply_is_unreadable(body: bytes) -> None:
    with pytest.raises(Unreadable):
        parse_reply(body)


def test_odd_values_are_read() -> None:
    assert parse_reply(b'{"a": "\xff\xfe"}') == {"a": "\ufffd\ufffd"}
    assert parse_reply(b'{"a": "line\nfeed\x00"}') == {"a": "line\nfeed\x00"}
    assert parse_reply(b'{"a": "\\ud83d"}') == {"a": "\ud83d"}
    assert parse_reply(b'{"a": ' + b"9" * 6000 + b"}") == {"a": math.inf}
    assert parse_reply(b'{"a": 1e999, "a": -Infinity}') == {"a": -math.inf}


@pytest.mark.parametrize("value", [None, 4, "text", [], {}, {"a": None}, {"a": 4}, [{"a": {}}]])
def test_look_ups_of_other_types_find_nothing(value: Any) -> None:
    assert (object_at(value, "a"), list_at(value, "a"), text_at(value, "a")) == ({}, [], "")


def test_only_log_probabilities_that_can_be_true_are_used() -> None:
    values = [-0.5, 0, -9999.0, 0.1, math.nan, -math.inf, "-1", None, True, -(10**400), [-1]]
    items = [{"t": str(number), "p": value} for number, value in enumerate(values)]
    odd: list[Any] = [None, "text", {"t": 1, "p": -1.0}, {"p": -1.0}, {"t": "a"}]
    assert log_probabilities([*items, *odd], "t", "p") == [("0", -0.5), ("1", 0.0), ("2", -9999.0)]
