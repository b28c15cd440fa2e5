"""``tutelage export``: copy a model of a run to a folder, and upload it to the hub if requested."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tutelage.cli.options import (
    PATH,
    load_plugin_files,
    model_argument,
    plugin_file_option,
    plugin_options,
    run_argument,
    seed_option,
)
from tutelage.cli.output import print_line
from tutelage.exporting.card import Published
from tutelage.exporting.copying import Export
from tutelage.exporting.publishing import publisher
from tutelage.plugin_info import Conversion
from tutelage.plugins.registry import Registry
from tutelage.runs.run import RunModels

_DTYPES = ("bfloat16", "float16", "float32")


@click.command("export")
@run_argument
@model_argument
@click.argument("destination", type=PATH)
@seed_option
@click.option(
    "--format",
    type=click.Choice(("transformers", "gguf")),
    default="transformers",
    show_default=True,
    help="gguf: one file for llama.cpp and a Modelfile for Ollama (needs the extra gguf).",
)
@click.option("--dtype", type=click.Choice(_DTYPES), help="Type of the stored weights [default: unchanged].")
@click.option(
    "--quantize", type=click.Choice(("8bit", "4bit")), help="Quantise the linear layers (requires bitsandbytes)."
)
@click.option("--license", metavar="ID", help="License in the model card [default: the base model's, if known].")
@click.option("--push", metavar="OWNER/NAME", help="Also upload to the Hugging Face hub (requires HF_TOKEN).")
@click.option("--private", is_flag=True, help="With --push: if the repository is new, make it private.")
@plugin_file_option
@plugin_options
def command(
    run: Path,
    model: str,
    destination: Path,
    seed: int | None,
    format: Any,
    dtype: Any,
    quantize: Any,
    license: str | None,
    push: str | None,
    private: bool,
    plugin_files: tuple[str, ...],
    registry: Registry,
) -> None:
    """Copy a model of a run to a folder or the hub, with a model card.

    MODEL is the model's name in the run, such as M1 or M2/self-reward. DESTINATION is a new folder. If the student is
    one of transformers, then transformers, TRL and vLLM can load it: merged weights, adapter, tokenizer and chat
    template. Its README.md is the model card: lineage, data, training, measured results, recipe and versions.
    """
    if format == "gguf" and quantize:
        raise click.UsageError("--quantize has no GGUF format; export, and run `llama-quantize` of llama.cpp")
    if private and not push:
        raise click.UsageError("--private requires --push")
    models = RunModels.open(run, seed)
    load_plugin_files(registry, plugin_files, run, needs_all=False)
    conversion = Conversion(dtype, quantize, format, models.recipe.generation.sampling())
    published = Published(push or destination.resolve().name, license, conversion.words, format)
    export = Export(models, models.planned(model), destination.resolve(), conversion, published)
    export.check(registry)
    hub = publisher(push, private) if push else None
    export.write(registry)
    print_line(f"exported {model} to {destination}")
    if hub:
        print_line(f"uploaded to the hub: {hub.push(destination)}")
