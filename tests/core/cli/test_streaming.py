"""An answer that is printed while it is generated is, when it is complete, the whole answer and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.cli.output import printable
from tutelage.cli.streaming import CHANGED, StreamedAnswer


def test_only_what_is_new_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    answer = StreamedAnswer()
    shown = []
    for text in ("He", "Hello,", "Hello, \x1b[3", "Hello, \x1b[31mwor"):
        answer.show(text)
        shown.append(capsys.readouterr().out)
    assert shown == ["He", "llo,", "", " wor"]
    answer.finish("Hello, \x1b[31mworld\n")
    assert capsys.readouterr().out == "ld\n\n"


@given(st.text(st.sampled_from("ab \n\t\x1b[]0;mJ\x07\u202e\x9b"), max_size=30), st.data())
def test_the_printed_text_equals_the_answer_wherever_it_was_interrupted(text: str, data: st.DataObject) -> None:
    ends = sorted(data.draw(st.lists(st.integers(0, len(text)))))
    with pytest.MonkeyPatch.context() as patch:
        printed: list[str] = []
        patch.setattr("click.echo", lambda message="", nl=True, **_: printed.append(message + "\n" * nl))
        answer = StreamedAnswer()
        for end in ends:
            answer.show(text[:end])
        answer.finish(text)
    assert "".join(printed) == printable(text) + "\n"


def test_an_answer_that_began_otherwise_is_printed_whole_after_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    """A closing mark without an opening one turns the text before it into a thinking block."""
    answer = StreamedAnswer()
    answer.show("Hm, let me see.")
    answer.show("42")
    answer.finish("42")
    found = capsys.readouterr()
    assert (found.out, found.err) == ("Hm, let me see.\n42\n", f"{CHANGED}\n")


def test_an_interrupted_answer_ends_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), StreamedAnswer() as answer:
        answer.show("Once upon")
        raise KeyboardInterrupt
    assert capsys.readouterr().out == "Once upon\n"
