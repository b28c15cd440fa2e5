"""``tutelage ledger``: show the cost of stored API answers; delete or export the answers."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import click
from attrs import asdict

from tutelage.cli.lazy_group import CommandGroup
from tutelage.cli.options import as_json
from tutelage.cli.output import Table, print_line, print_status, print_table
from tutelage.cli.questions import confirmed
from tutelage.errors import InputError, Interrupted
from tutelage.files.disk_errors import check_writable
from tutelage.files.jsonl import write_rows
from tutelage.services.ledger import GROUPS, Ledger, Spend, default_path

_DEFAULT_GROUPS = ("run", "stage", "model")

_of_run = click.option("--run", metavar="RUN", help="Only answers paid for by this run, named as in the table.")
_of_model = click.option("--model", metavar="NAME", help="Only answers of this model.")


@click.group("ledger", cls=CommandGroup, invoke_without_command=True)
@click.option(
    "--by",
    multiple=True,
    type=click.Choice(GROUPS),
    help="Group by this column; repeatable [default: run, stage, model].",
)
@_of_run
@_of_model
@as_json
@click.pass_context
def command(context: click.Context, by: tuple[str, ...], run: str | None, model: str | None, as_json: bool) -> None:
    """Show the cost of stored API answers; prune or export them."""
    if context.invoked_subcommand is not None:
        return
    by = by or _DEFAULT_GROUPS
    lines = Ledger().spend(by, run=run, model=model)
    if as_json:
        print_line(
            json.dumps([{**dict(zip(by, line.group, strict=True)), **_spend_values(line)} for line in lines], indent=2)
        )
        return
    print_table(_table(by, lines))
    print_line(f"\nledger: {default_path()}")


@command.command("prune")
@_of_run
@_of_model
@click.option("--before", type=click.DateTime(), help="Only answers requested before this time (UTC).")
@click.option("--yes", is_flag=True, help="Delete without confirmation.")
def prune_command(run: str | None, model: str | None, before: datetime | None, yes: bool) -> None:
    """Delete answers of a run, of a model or before a date. If needed again, they have to be paid for again."""
    if not (run or model or before):
        raise InputError("choose the answers to delete with --run, --model or --before")
    if not (yes or confirmed("Delete these answers? If needed again, they have to be paid for again")):
        raise Interrupted("nothing was deleted")
    moment = before.replace(tzinfo=UTC) if before else None
    print_status(f"{Ledger().prune(moment, run=run, model=model):,} answers deleted")


@command.command("export")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@_of_run
@_of_model
def export_command(file: Path | None, run: str | None, model: str | None) -> None:
    """Write the answers as JSON lines to FILE [default: stdout]."""
    rows = Ledger().export(run=run, model=model)
    if file is None:
        for row in rows:
            click.echo(json.dumps(row, ensure_ascii=False))
        return
    if file.exists():
        raise InputError(f"{file}: already exists; choose another file")
    check_writable(file)
    count = write_rows(file, rows)
    print_status(f"wrote {count:,} answers to {file}")


def _spend_values(line: Spend) -> dict[str, object]:
    return {name: value for name, value in asdict(line).items() if name != "group"}


def _table(by: Iterable[str], lines: list[Spend]) -> Table:
    columns = (*by, "answers", "tokens in", "tokens out", "US dollars", "price unknown")
    rows = [(*line.group, *_cells(line)) for line in lines]
    if lines:
        total = _total(lines)
        rows.append(("total", *[""] * (len(lines[0].group) - 1), *_cells(total)))
    return Table(columns, rows, left=frozenset(by))


def _total(lines: list[Spend]) -> Spend:
    return Spend(
        group=(),
        answers=sum(line.answers for line in lines),
        input_tokens=sum(line.input_tokens for line in lines),
        output_tokens=sum(line.output_tokens for line in lines),
        cost=sum(line.cost for line in lines),
        unknown=sum(line.unknown for line in lines),
    )


def _cells(line: Spend) -> tuple[str, ...]:
    counts = (f"{line.answers:,}", f"{line.input_tokens:,}", f"{line.output_tokens:,}")
    return *counts, f"{line.cost:,.4f}", f"{line.unknown:,}" if line.unknown else ""
