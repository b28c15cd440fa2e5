"""``tutelage data export``: the pairs of a run in the formats that others read."""

from __future__ import annotations

from pathlib import Path

import click

from tutelage.cli.data_show import model_argument, run_argument, seed_option
from tutelage.cli.output import tell
from tutelage.data.preference_formats import FORMATS, write_table
from tutelage.errors import InputError
from tutelage.results.training_data import preferences_of
from tutelage.runs.run import RunModels


@click.command("export")
@run_argument
@model_argument
@click.argument("out", type=click.Path(path_type=Path))
@seed_option
@click.option("--format", "form", type=click.Choice(sorted(FORMATS)), default="trl", show_default=True)
def export_command(run: Path, model: str, out: Path, seed: int | None, form: str) -> None:
    """Write the preference pairs that MODEL of RUN learned from.

    OUT ends in .jsonl or .parquet; without an ending it is a `datasets` folder. Formats: trl (for trl.DPOTrainer) and
    ultrafeedback (the columns of HuggingFaceH4/ultrafeedback_binarized).
    """
    pairs = preferences_of(RunModels.open(run, seed), model)
    if not pairs:
        raise InputError(f"{model} has no pairs; `tutelage data statistics {run} {model}` says why")
    write_table(out, [FORMATS[form](pair) for pair in pairs])
    tell(f"{len(pairs):,} pairs are in {out}")
