"""``tutelage data import``: convert the user's prompts, examples or preferences to the files that recipes read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from tutelage.cli.output import Table, print_line, print_status, print_table
from tutelage.data.importing import KINDS, Columns, Fault, import_rows
from tutelage.data.tables import read_table
from tutelage.errors import InputError
from tutelage.files.disk_errors import check_writable
from tutelage.files.jsonl import write_rows

SHOWN_FAULTS = 5
"""Number of faulty rows that the error message lists."""


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
@click.option("--messages", help="Column of a conversation; its first turn replaces prompt and answer.")
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
    split: str,
    separator: str,
    drop_faulty: bool,
) -> None:
    """Convert your own data set to the format that recipes read.

    SOURCE is a file (.jsonl, .jsonl.gz, .json, .csv, .tsv, .parquet), a `datasets` folder, or hub:OWNER/NAME. OUT is a
    .jsonl file. A prompt or an answer may be text or a list of messages. Without --drop-faulty, a single faulty row is
    an error and nothing is written.
    """
    dropped = out.with_name(f"{out.stem}-dropped.jsonl")
    if existing := [str(path) for path in (out, dropped) if path.exists()]:
        raise InputError(f"{', '.join(existing)}: already exists; choose another file")
    check_writable(out)
    columns = Columns(prompt, answer, score, chosen, rejected, reason, id_column, messages)
    found = import_rows(kind, read_table(source, split, separator), columns)
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


def _faults_text(source: str, faults: Sequence[Fault], rows: int) -> str:
    lines = [f"{source}: {len(faults):,} of {rows:,} rows are faulty; correct them or use --drop-faulty"]
    lines += [_fault_text(fault) for fault in faults[:SHOWN_FAULTS]]
    if len(faults) > SHOWN_FAULTS:
        lines.append(f"  and {len(faults) - SHOWN_FAULTS:,} more")
    return "\n".join(lines)


def _fault_text(fault: Fault) -> str:
    return f"  {fault.place}{f' ({fault.id})' if fault.id else ''}: {fault.reason}"
