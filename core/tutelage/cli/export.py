"""``tutelage export``: a model of a run for others, as a folder or on the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tutelage.cli.data_show import model_argument, run_argument, seed_option
from tutelage.cli.options import plugin_options
from tutelage.cli.output import say
from tutelage.exporting.card import Published
from tutelage.exporting.copying import Export
from tutelage.exporting.publishing import publisher
from tutelage.plugin.registry import Registry
from tutelage.plugin_info import Conversion
from tutelage.runs.run import RunModels

_DTYPES = ("bfloat16", "float16", "float32")


@click.command("export")
@run_argument
@model_argument
@click.argument("destination", type=click.Path(path_type=Path))
@seed_option
@click.option("--dtype", type=click.Choice(_DTYPES), help="Store the weights in this type [default: as they are].")
@click.option(
    "--quantize", type=click.Choice(("8bit", "4bit")), help="Quantise the linear layers (needs bitsandbytes)."
)
@click.option("--license", metavar="ID", help="For the card [default: that of the base model, where it is known].")
@click.option("--push", metavar="OWNER/NAME", help="Then push it to the Hugging Face hub (HF_TOKEN must be set).")
@click.option("--private", is_flag=True, help="With --push: make the repository private, where it is new.")
@plugin_options
def command(
    run: Path,
    model: str,
    destination: Path,
    seed: int | None,
    dtype: Any,
    quantize: Any,
    license: str | None,
    push: str | None,
    private: bool,
    registry: Registry,
) -> None:
    """Copy a model of a run for others, with its model card.

    MODEL is named as in the run: M1, M2/self-reward. DESTINATION becomes a folder that transformers, TRL and vLLM
    load as it is, with tokenizer, chat template and, beside the merged weights, the adapter. Its README.md is the model
    card: lineage, data, training, measured results, recipe and versions.
    """
    if private and not push:
        raise click.UsageError("--private says how to --push")
    models = RunModels.open(run, seed)
    conversion = Conversion(dtype, quantize)
    published = Published(push or destination.resolve().name, license, conversion.words)
    export = Export(models, models.planned(model), destination.resolve(), conversion, published)
    export.check(registry)
    hub = publisher(push, private) if push else None
    export.write(registry)
    say(f"{model} is in {destination}")
    if hub:
        say(f"and on the hub: {hub.push(destination)}")
