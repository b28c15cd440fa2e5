import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import oasst_trees
import pytest

from tutelage.data.oasst import (
    SeedData,
    agrees,
    eft_rows,
    ift_rows,
    judged_rows,
    message_of,
    messages_in,
    scores,
    seed_data,
)
from tutelage.data.tables import read_table
from tutelage.records import Judgement, Outcome

IFT = [("Name a river.", "The Nile."), ("Name a colour.", "Red."), ("Tell a joke.", "A good one.")]
EFT = [
    ("Name a river.", "The Nile.", 5),
    ("Name a river.", "Some river.", 3),
    ("Name a river.", "The Moon.", 1),
    ("Say hello.", "Hi.", 5),
    ("Say hello.", "What?", 1),
    ("Count to two.", "1, 2", 5),
    ("Count to two.", "One, two.", 5),
    ("Count to two.", "1", 1),
    ("Tell a joke.", "A good one.", 5),
    ("Tell a joke.", "A fair one.", 4),
    ("Tell a joke.", "A poor one.", 2),
    ("Tell a joke.", "None.", 1),
]
COUNTS = [
    ("messages that begin a tree", len(oasst_trees.MESSAGES), 11),
    ("prompts neither deleted, rejected nor empty", 11, 8),
    ("prompts in en", 8, 7),
    ("prompts with a ranked answer", 7, 6),
    ("IFT: prompts with one answer at rank 0", 6, 3),
    ("IFT: at most 6,000 characters", 3, 3),
    ("EFT: prompts with answers at two ranks or more", 6, 4),
    ("EFT: at most 6,000 characters", 4, 4),
]


def found_in(rows: Iterable[Mapping[str, Any]]) -> SeedData:
    return seed_data([message for row in rows for message in messages_in(row)])


def test_ift_and_eft_come_out_as_worked_out_by_hand() -> None:
    found = found_in(oasst_trees.MESSAGES)
    assert [(row["prompt"], row["answer"]) for row in ift_rows(found.ift)] == IFT
    assert [(row["prompt"], row["answer"], row["score"]) for row in eft_rows(found.eft)] == EFT
    assert [(one.filter, one.entered, one.kept) for one in found.counts] == COUNTS


def test_what_is_too_long_for_a_context_is_left_out_and_counted() -> None:
    found = seed_data([message_of(row) for row in oasst_trees.MESSAGES], longest=20)
    assert [one.prompt.text for one in found.ift] == ["Name a colour."]
    assert [one.prompt.text for one in found.eft] == ["Say hello."]
    assert (found.counts[-1].entered, found.counts[-1].kept) == (4, 1)


def test_nested_trees_give_the_same_as_flat_messages() -> None:
    assert found_in(oasst_trees.trees()) == found_in(oasst_trees.MESSAGES)


@pytest.mark.parametrize("name", ["messages.jsonl", "messages.jsonl.gz", "messages.parquet"])
def test_an_export_is_read_from_every_file_that_it_comes_in(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in oasst_trees.MESSAGES).encode()))
    elif name.endswith(".parquet"):
        from datasets import Dataset

        Dataset.from_list(oasst_trees.MESSAGES).to_parquet(str(path))
    else:
        oasst_trees.write(path, oasst_trees.MESSAGES)
    assert found_in(row.values for row in read_table(str(path))) == found_in(oasst_trees.MESSAGES)


@pytest.mark.parametrize(
    ("ranks", "expected"),
    [([0, 1], [5, 1]), ([0, 1, 2], [5, 3, 1]), ([3, 0, 2], [1, 5, 3]), ([0, 0, 1], [5, 5, 1]), ([2], [5])],
)
def test_scores_spread_evenly_over_the_places(ranks: list[int], expected: list[float]) -> None:
    assert list(scores(ranks)) == expected


def test_a_rank_never_scores_higher_than_a_better_one() -> None:
    for places in range(2, 12):
        spread = scores(range(places))
        assert (spread[0], spread[-1]) == (5, 1)
        assert list(spread) == sorted(spread, reverse=True)


@pytest.mark.parametrize(
    ("ranks", "judged", "agree"),
    [
        ([0, 1, 2], [5, 3, 2], True),
        ([0, 1, 2], [5, 2, 3], False),
        ([0, 1], [4, 4], False),
        ([0, 0, 1], [2, 5, 1], True),
        ([0, 1], [5, None], False),
    ],
)
def test_a_teacher_agrees_where_each_better_rank_scored_higher(
    ranks: list[int], judged: list[float | None], agree: bool
) -> None:
    assert agrees(ranks, judged) is agree


def test_a_teachers_reasons_are_kept_only_where_its_order_is_the_humans() -> None:
    found = found_in(oasst_trees.MESSAGES)
    given = {"a1": 4, "a3": 3, "a2": 0, "c2": 1, "c3": 1, "e1": 3, "e2": 5, "e3": 2, "k1": 5, "k2": 4, "k3": 3}
    judgements = [Judgement(id, 0, float(score), reason=f"why {id}") for id, score in given.items()]
    judgements.append(Judgement("k4", 0, None, Outcome.UNPARSED))
    rows, funnel = judged_rows(found.eft, judgements)
    assert {row["prompt"] for row in rows} == {"Name a river.", "Count to two."}
    assert [(row["score"], row["reason"]) for row in rows[:2]] == [(4, "why a1"), (3, "why a3")]
    assert (funnel.counts[0].entered, funnel.counts[0].kept) == (4, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": None}, "text: missing or not a text; this is not a row of oasst1"),
        ({"rank": 0.5}, "rank: 0.5 is not a whole number"),
        ({"parent_id": 3}, "parent_id: 3"),
    ],
)
def test_a_row_that_is_none_of_oasst1_says_why(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        message_of({**oasst_trees.MESSAGES[0], **changes})


def test_a_rank_with_a_fraction_of_zero_is_one_as_parquet_gives_it() -> None:
    assert message_of({**oasst_trees.MESSAGES[1], "rank": 1.0}).rank == 1
