"""``tutelage data import``: convert the user's prompts, examples or preferences to the files that recipes read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import click

from tutelage.cli.output import Table, print_line, print_status, print_table
from tutelage.data.importing import KINDS, Columns, Fault, ScoreMapping, import_rows
from tutelage.data.tables import read_table
from tutelage.errors import InputError
from tutelage.files.disk_errors import check_writable
from tutelage.files.jsonl import RefusedLine, write_rows
from tutelage.preferences.judging import ADDITIVE_RUBRIC

ADDITIVE_SCALE = ADDITIVE_RUBRIC.lowest, ADDITIVE_RUBRIC.highest
"""Scale of the built-in rubric, which is the default of recipes."""
_NUMBER = r"-?\d{1,12}(?:\.\d{1,12})?"

SHOWN_FAULTS = 5
"""Number of faulty rows that the error message lists."""


def _scale(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, float] | None:
    """Parse LOW-HIGH, as a click callback."""
    if value is None:
        return None
    found = re.fullmatch(rf"({_NUMBER})-({_NUMBER})", value.strip())
    if found is None or not float(found[1]) < float(found[2]):
        raise click.BadParameter(f"{value!r}: expected the lowest and the highest score, such as 1-10")
    return float(found[1]), float(found[2])


@click.command("import")
@click.argument("kind", type=click.Choice(sorted(KINDS)))
@click.argument("source")
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--prompt", default="prompt", show_default=True, help="Column of the prompt.")
@click.option("--answer", default="answer", show_default=True, help="Column of the answer (ift, eft).")
@click.option("--score", default="score", show_default=True, help="Column of the score (eft).")
@click.option("--reason", help="Column of the reason (eft).")
@click.option("--chosen", default="chosen", show_default=True, help="Column of the better answer (preferences).")
@click.option("--rejected", default="rejected", show_default=True, help="Column of the worse answer (preferences).")
@click.option("--id", "id_column", help="Column with a unique id for each row.")
@click.option(
    "--messages",
    help="Column of a conversation: [system,] user, assistant, user, ...; it replaces prompt and answer, for "
    "preferences the prompt only.",
)
@click.option(
    "--scale",
    callback=_scale,
    metavar="LOW-HIGH",
    help="Scale of the scores in SOURCE, such as 1-10; they are mapped linearly to --to-scale (eft).",
)
@click.option(
    "--to-scale",
    callback=_scale,
    metavar="LOW-HIGH",
    help="Scale of the recipe's rubric, with --scale (eft) [default: 0-5].",
)
@click.option(
    "--split", default="train", show_default=True, help="Split to read from a hub data set or a `datasets` folder."
)
@click.option("--separator", default=",", show_default=True, help="Column separator of a CSV file.")
@click.option("--drop-faulty", is_flag=True, help="Skip faulty rows and list them in a file next to OUT.")
def import_command(
    kind: str,
    source: str,
    out: Path,
    prompt: str,
    answer: str,
    score: str,
    reason: str | None,
    chosen: str,
    rejected: str,
    id_column: str | None,
    messages: str | None,
    scale: tuple[float, float] | None,
    to_scale: tuple[float, float] | None,
    split: str,
    separator: str,
    drop_faulty: bool,
) -> None:
    """Convert your own data set to the format that recipes read.

    SOURCE is a file (.jsonl, .jsonl.gz, .json, .csv, .tsv, .parquet), a `datasets` folder, hub:OWNER/NAME, or one
    file of it, hub:OWNER/NAME/FILE. OUT is a .jsonl file. A prompt or an answer may be text or a list of messages;
    all messages are kept. Without --drop-faulty, a single faulty row is an error and nothing is written.
    """
    dropped = out.with_name(f"{out.stem}-dropped.jsonl")
    if existing := [str(path) for path in (out, dropped) if path.exists()]:
        raise InputError(f"{', '.join(existing)}: already exists; choose another file")
    mapping = _mapping(kind, scale, to_scale)
    check_writable(out)
    columns = Columns(prompt, answer, score, chosen, rejected, reason, id_column, messages)
    refused: list[Fault] = []

    def skip(line: RefusedLine) -> None:
        if not drop_faulty:
            raise InputError(f"{line}; correct the row or use --drop-faulty") from line
        refused.append(Fault(line.place, "", line.reason))

    found = import_rows(kind, read_table(source, split, separator, skip), columns, mapping)
    found.faults[:0] = refused
    if found.faults and not drop_faulty:
        raise InputError(_faults_text(source, found.faults, len(found.rows) + len(found.faults)))
    if not found.rows:
        raise InputError(f"{source}: all {len(found.faults)} rows are faulty")
    if found.faults:
        write_rows(dropped, found.faults)
    write_rows(out, found.rows)
    if found.faults:
        print_table(Table(("dropped because", "rows"), [(why, f"{n:,}") for why, n in found.reasons().items()]))
        print_line(f"the dropped rows are listed in {dropped}")
    print_status(f"wrote {len(found.rows):,} of {len(found.rows) + len(found.faults):,} rows to {out}")


def _mapping(kind: str, scale: tuple[float, float] | None, to_scale: tuple[float, float] | None) -> ScoreMapping | None:
    if scale is None:
        if to_scale is not None:
            raise InputError("--to-scale: give the scale of the scores in SOURCE too, with --scale")
        return None
    if kind != "eft":
        raise InputError(f"--scale: only the scores of eft are mapped; leave it out for {kind}")
    return ScoreMapping(scale, to_scale or ADDITIVE_SCALE)


def _faults_text(source: str, faults: Sequence[Fault], rows: int) -> str:
    lines = [f"{source}: {len(faults):,} of {rows:,} rows are faulty; correct them or use --drop-faulty"]
    lines += [_fault_text(fault) for fault in faults[:SHOWN_FAULTS]]
    if len(faults) > SHOWN_FAULTS:
        lines.append(f"  and {len(faults) - SHOWN_FAULTS:,} more")
    return "\n".join(lines)


def _fault_text(fault: Fault) -> str:
    return f"  {fault.place}{f' ({fault.id})' if fault.id else ''}: {fault.reason}"
