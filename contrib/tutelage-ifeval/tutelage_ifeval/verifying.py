"""The verifiers of IFEval (Zhou et al., 2023, arXiv:2311.07911), as the package ``if-verifiable`` has them.

A prompt names its instructions in its metadata, as IFEval does: ``instruction_id_list``, and ``kwargs`` with one
mapping for each. A verifier answers yes or no for one instruction. An instruction that cannot be checked has no answer:
it counts neither as followed nor as not followed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from attrs import frozen

from tutelage import Rubric


@frozen
class Checked:
    """The result of one instruction."""

    instruction: str
    followed: bool | None
    """None if the instruction cannot be checked."""
    reason: str = ""
    """The reason, if it cannot be checked."""


@frozen
class Result:
    """The results of all instructions of a prompt, for one answer."""

    checked: tuple[Checked, ...]
    problem: str = ""
    """The reason why there are no results."""

    @property
    def share(self) -> float | None:
        """Share of the instructions that are followed; None if one of them cannot be checked.

        With the others alone, the score would depend on the data that happens to be on a machine.
        """
        if not self.checked or any(one.followed is None for one in self.checked):
            return None
        return sum(bool(one.followed) for one in self.checked) / len(self.checked)

    @property
    def detail(self) -> str:
        """The reason why there is no share; empty if there is one."""
        reasons = [f"{one.instruction}: {one.reason}" for one in self.checked if one.followed is None]
        return "; ".join(dict.fromkeys(reasons)) or self.problem

    @property
    def reason(self) -> str:
        """The instructions that are followed and those that are not, as text."""
        followed = [words(one.instruction) for one in self.checked if one.followed]
        broken = [words(one.instruction) for one in self.checked if one.followed is False]
        parts = [f"Followed: {', '.join(followed)}."] if followed else []
        return " ".join([*parts, *([f"Not followed: {', '.join(broken)}."] if broken else [])])


def score(rubric: Rubric, share: float) -> float:
    """Return the score of a share of followed instructions: none is the rubric's lowest score, all is its highest."""
    return rubric.lowest + share * (rubric.highest - rubric.lowest)


def words(instruction: str) -> str:
    """Return the name of an instruction as words: ``number of words`` for ``length_constraints:number_words``."""
    name = instruction.partition(":")[2].replace("_", " ")
    return name.replace("number ", "number of ") if name.startswith("number ") else name


def verify(prompt: str, answer: str, metadata: Mapping[str, Any], loose: bool = False) -> Result:
    """Check each instruction of a prompt. The same texts always have the same result.

    ``loose`` also accepts an answer that follows the instruction without its first line, its last line or its
    asterisks, as IFEval's loose accuracy does (section 3 of the paper).
    """
    names, values = metadata.get("instruction_id_list"), metadata.get("kwargs")
    if not names:
        return Result((), "the prompt has no metadata instruction_id_list: no verifier knows its instructions")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return Result((), "the metadata instruction_id_list of the prompt must be a list of names")
    if (
        not isinstance(values, list)
        or len(values) != len(names)
        or not all(isinstance(own, Mapping | None) for own in values)
    ):
        return Result((), "the metadata kwargs of the prompt must be a list with one mapping for each instruction")
    texts = _loosened(answer) if loose else (answer,)
    return Result(tuple(_check(name, own or {}, prompt, texts) for name, own in zip(names, values, strict=True)))


def _check(name: str, values: Mapping[str, Any], prompt: str, texts: Sequence[str]) -> Checked:
    kind = _verifiers().get(name)
    if kind is None:
        return Checked(name, None, "no verifier has this name")
    given = {key: value for key, value in values.items() if value is not None}
    verifier = kind(name)
    missing = set(verifier.get_instruction_args_keys()) - set(given)
    if missing:  # the verifier would draw a value at random
        return Checked(name, None, f"its kwargs lack {', '.join(sorted(missing))}")
    try:
        verifier.build_description(**given)
        if replaced := _replaced(given, verifier.get_instruction_args() or {}):
            return Checked(name, None, f"its verifier does not accept the value of {replaced} and draws another one")
        if "prompt" in (verifier.get_instruction_args() or {}):
            verifier.build_description(prompt=prompt)
        followed = any(text.strip() and verifier.check_following(text) for text in texts)
    except LookupError as error:  # of NLTK, whose data no package index has
        return Checked(name, None, _missing_data(error))
    except Exception as error:  # a verifier that fails has not checked anything
        return Checked(name, None, f"its verifier failed ({type(error).__name__}: {error})")
    return Checked(name, bool(followed))


def _replaced(given: Mapping[str, Any], used: Mapping[str, Any]) -> str:
    """The names of the values that a verifier has replaced: it draws at random what is out of its range.

    For example, ``#`` as the letter of ``letter_frequency``, which two prompts of IFEval have.
    """
    return ", ".join(key for key, value in given.items() if key in used and _plain(value) != _plain(used[key]))


def _plain(value: Any) -> Any:
    """A value without what verifiers change: the case, spaces around it, and the order of a list."""
    if isinstance(value, str):
        return value.strip().lower()
    return sorted(map(_plain, value)) if isinstance(value, Sequence) else value


def _missing_data(error: LookupError) -> str:
    found = [word for word in ("punkt_tab", "punkt") if word in str(error)]
    name = found[0] if found else "that it needs"
    return f"NLTK's data {name} is not on this machine (`python -m nltk.downloader {found[0] if found else 'all'}`)"


@cache
def _verifiers() -> Mapping[str, Any]:
    """The verifiers by name. langdetect draws random samples: its seed is set, or equal texts had different results."""
    from if_verifiable.ifeval.instructions_registry import INSTRUCTION_DICT
    from langdetect import DetectorFactory

    DetectorFactory.seed = 0
    return dict(INSTRUCTION_DICT)


def _loosened(answer: str) -> tuple[str, ...]:
    """The eight variants of an answer of IFEval's loose accuracy."""
    lines = answer.split("\n")
    parts = (lines, lines[1:], lines[:-1], lines[1:-1])
    texts = ["\n".join(part).strip() for part in parts]
    texts[0] = answer
    return (*texts, *(text.replace("*", "") for text in texts))
