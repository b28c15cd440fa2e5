"""``tutelage data export``: write the preference pairs of a run in the formats of other libraries."""

from __future__ import annotations

from pathlib import Path

import click

from tutelage.cli.options import PATH, model_argument, run_argument, seed_option
from tutelage.cli.output import print_status
from tutelage.data.preference_formats import FORMATS, write_table
from tutelage.errors import InputError
from tutelage.results.training_data import preferences_of
from tutelage.runs.run import RunModels


@click.command("export")
@run_argument
@model_argument
@click.argument("out", type=PATH)
@seed_option
@click.option(
    "--format", "format_name", type=click.Choice(sorted(FORMATS)), default="trl", show_default=True, help="Row format."
)
def export_command(run: Path, model: str, out: Path, seed: int | None, format_name: str) -> None:
    """Write the preference pairs that MODEL of RUN was trained on.

    OUT ends in .jsonl or .parquet; without a suffix, it becomes a `datasets` folder. Formats: trl (for trl.DPOTrainer)
    and ultrafeedback (the columns of HuggingFaceH4/ultrafeedback_binarized).
    """
    pairs = preferences_of(RunModels.open(run, seed), model)
    if not pairs:
        raise InputError(f"{model} has no pairs; `tutelage data statistics {run} {model}` shows the reasons")
    write_table(out, [FORMATS[format_name](pair) for pair in pairs])
    print_status(f"wrote {len(pairs):,} pairs to {out}")
