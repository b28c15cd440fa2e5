"""``tutelage data import``: one's own prompts, examples and preferences, as a recipe reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from tutelage.cli.output import Table, say, show, tell
from tutelage.data.importing import KINDS, Columns, Fault, import_rows
from tutelage.data.tables import read_table
from tutelage.errors import InputError
from tutelage.files.jsonl import write_rows

SHOWN_FAULTS = 5


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
@click.option("--id", "id_column", help="Column that names a row; none may come twice.")
@click.option("--messages", help="Column of a whole conversation, in place of prompt and answer: its first turn.")
@click.option("--split", default="train", show_default=True, help="Of a hub data set or a folder of several splits.")
@click.option("--separator", default=",", show_default=True, help="Of a CSV file.")
@click.option("--drop-faulty", is_flag=True, help="Leave faulty rows out, and list them beside OUT.")
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
    split: str,
    separator: str,
    drop_faulty: bool,
) -> None:
    """Bring a data set of one's own into the form that a recipe reads.

    SOURCE is a file (.jsonl, .jsonl.gz, .json, .csv, .tsv, .parquet), a `datasets` folder, or hub:OWNER/NAME. OUT is a
    .jsonl file. Texts and lists of messages are read alike. Without --drop-faulty, one faulty row is an error; nothing
    is written then.
    """
    dropped = out.with_name(f"{out.stem}-dropped.jsonl")
    if there := [str(path) for path in (out, dropped) if path.exists()]:
        raise InputError(f"{', '.join(there)}: there already; name another file")
    columns = Columns(prompt, answer, score, chosen, rejected, reason, id_column, messages)
    found = import_rows(kind, read_table(source, split, separator), columns)
    if found.faults and not drop_faulty:
        raise InputError(_faults_words(source, found.faults, len(found.rows) + len(found.faults)))
    if not found.rows:
        raise InputError(f"{source}: no row is left of {len(found.faults)}")
    if found.faults:
        write_rows(dropped, found.faults)
    write_rows(out, found.rows)
    if found.faults:
        show(Table(("dropped because", "rows"), [(why, f"{n:,}") for why, n in found.reasons().items()]))
        say(f"the dropped rows are named in {dropped}")
    tell(f"{len(found.rows):,} of {len(found.rows) + len(found.faults):,} rows are in {out}")


def _faults_words(source: str, faults: Sequence[Fault], rows: int) -> str:
    lines = [f"{source}: {len(faults):,} of {rows:,} rows cannot be used; correct them, or give --drop-faulty"]
    lines += [_fault_words(fault) for fault in faults[:SHOWN_FAULTS]]
    if len(faults) > SHOWN_FAULTS:
        lines.append(f"  and {len(faults) - SHOWN_FAULTS:,} more")
    return "\n".join(lines)


def _fault_words(fault: Fault) -> str:
    return f"  {fault.place}{f' ({fault.id})' if fault.id else ''}: {fault.reason}"
