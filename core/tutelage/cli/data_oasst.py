"""``tutelage data oasst``: build the paper's seed data from OpenAssistant's message trees."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from tutelage.cli.models import find_model
from tutelage.cli.options import plugin_options, settings_option
from tutelage.cli.output import Table, print_status, print_table
from tutelage.context import Context
from tutelage.data.funnel import FilterCount
from tutelage.data.oasst import (
    LONGEST,
    RankedPrompt,
    TreeMessage,
    eft_rows,
    ift_rows,
    judge_items,
    judged_rows,
    messages_in,
    seed_data,
)
from tutelage.data.tables import read_table
from tutelage.errors import InputError
from tutelage.files.disk_errors import check_writable
from tutelage.files.jsonl import write_json, write_rows
from tutelage.plugins import stages
from tutelage.plugins.registry import Registry
from tutelage.preferences.judging import ADDITIVE_RUBRIC
from tutelage.records import Model, Sampling

HUB_SOURCE = "hub:OpenAssistant/oasst1"
JUDGEMENT_TOKENS = 256


@click.command("oasst")
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--source",
    "sources",
    multiple=True,
    help=f"Export with the messages or trees (.jsonl, .jsonl.gz, .parquet); repeatable [default: {HUB_SOURCE}].",
)
@click.option("--split", default="train", show_default=True, help="Split of the hub data set.")
@click.option("--lang", default="en", show_default=True, help="Language of prompts and answers.")
@click.option(
    "--max-characters",
    "longest",
    type=click.IntRange(min=1),
    default=LONGEST,
    show_default=True,
    help="Maximum length of prompt and answer together; longer texts may exceed a small model's context.",
)
@click.option(
    "--teacher",
    metavar="PLUGIN[:MODEL]",
    help="Model that writes scores and reasons for EFT; kept if its ranking agrees with the human ranking.",
)
@settings_option("Override a setting of the teacher's plugin; repeatable.")
@plugin_options
def oasst_command(
    out: Path,
    sources: tuple[str, ...],
    split: str,
    lang: str,
    longest: int,
    teacher: str | None,
    settings: tuple[str, ...],
    registry: Registry,
) -> None:
    """Build IFT and EFT seed data from OpenAssistant's message trees (oasst1).

    Writes OUT/ift.jsonl, OUT/eft.jsonl and OUT/counts.json (rows that entered and passed each filter). Give the two
    .jsonl files in a recipe as data.ift.source and data.eft.source.
    """
    targets = [out / name for name in ("ift.jsonl", "eft.jsonl", "counts.json")]
    if existing := [str(path) for path in targets if path.exists()]:
        raise InputError(f"{', '.join(existing)}: already exists; choose another folder")
    check_writable(targets[0])
    model = find_model(teacher, registry, settings=settings) if teacher else None
    found = seed_data(list(_messages(sources or (HUB_SOURCE,), split)), lang, longest)
    ift, counts = ift_rows(found.ift), list(found.counts)
    eft, judging_counts = _judged(found.eft, model, registry) if model else (eft_rows(found.eft), [])
    counts += judging_counts
    if not ift or not eft:
        print_table(counts_table(counts))
        raise InputError(
            f"{len(ift)} IFT and {len(eft)} EFT examples remain; the table shows how many each filter dropped"
        )
    for path, rows in zip(targets[:2], (ift, eft), strict=True):
        write_rows(path, rows)
    write_json(targets[2], {"schema": 1, "filters": counts, "ift": len(ift), "eft": len(eft)})
    print_table(counts_table(counts))
    print_status(f"wrote {len(ift):,} IFT and {len(eft):,} EFT examples to {out}")


def counts_table(counts: Iterable[FilterCount]) -> Table:
    """Return a table of the rows that entered, passed and were dropped by each filter."""
    rows = [
        (count.filter, f"{count.entered:,}", f"{count.kept:,}", f"{count.entered - count.kept:,}") for count in counts
    ]
    return Table(("filter", "in", "out", "dropped"), rows)


def _messages(sources: Sequence[str], split: str) -> Iterator[TreeMessage]:
    places: dict[str, str] = {}
    for source in sources:
        for row in read_table(source, split):
            try:
                found = messages_in(row.values)
            except ValueError as error:
                raise InputError(f"{row.place}: {error}") from error
            for message in found:
                if (before := places.setdefault(message.message_id, row.place)) != row.place:
                    raise InputError(f"{row.place}: duplicate message {message.message_id}, first found at {before}")
                yield message


def _judged(
    eft: Sequence[RankedPrompt], model: Model, registry: Registry
) -> tuple[list[dict[str, Any]], list[FilterCount]]:
    items, sampling = judge_items(eft), Sampling(0.0, 1.0, JUDGEMENT_TOKENS)
    print_status(
        f"asking {model.plugin} for {len(items):,} judgements; if interrupted, paid answers are kept in the ledger"
    )
    judgements = list(stages.judge(registry, model, items, ADDITIVE_RUBRIC, 1, sampling, Context()))
    rows, funnel = judged_rows(eft, judgements)
    return rows, funnel.counts
