"""Use of the library alpaca_eval 0.6.6: its annotators, the seeded order of a pair, and the length-controlled fit.

The import of the library loads a ``.env`` file into the environment, changes the level of the root logger, and needs a
user name and ``pkg_resources``. Its fit downloads a table from the hub and writes weights into the installed package.
This module is the only one that imports the library, and it prevents these side effects: the environment and the logger
are restored, and the table is read from a local folder.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import attrs
import yaml
from attrs import frozen

from tutelage.errors import InputError, PluginError, nearest
from tutelage.evaluation.alpaca_eval import Annotation
from tutelage.evaluation.length_control import ANNOTATOR, LengthControlled
from tutelage.installation import install_command
from tutelage.records import Rubric

GAMED = "df_gamed.csv"
"""File name of the table that the fit of a new model needs: annotations of the two variants of the baseline
(tatsu-lab/alpaca_eval)."""
_PLACEHOLDERS = {"{instruction}": "{prompt}", "{output_1}": "{first}", "{output_2}": "{second}"}
_SEED = 0
"""Seed of the order of two outputs. The leaderboard's annotations were made with this seed."""


@frozen
class Annotator:
    """An annotator of the library that computes the preference from the log-probabilities of two tokens."""

    name: str
    provider: str
    """The service that it was made for, as the library names it: ``openai``."""
    model: str
    """The API model that the annotator was made for."""
    rubric: Rubric


def load_annotator(name: str = ANNOTATOR) -> Annotator:
    """Load an annotator by its name in the library.

    Raises ``InputError`` if the library has no log-probability annotator of this name, and ``PluginError`` if the
    library cannot be imported.
    """
    with importing():
        utils = import_module("alpaca_eval.utils")
        folder = Path(import_module("alpaca_eval.constants").EVALUATORS_CONFIG_DIR)
    known = _weighted(folder)
    if name not in known:
        raise InputError(f"alpaca_eval has no log-probability annotator {name!r}{nearest(name, known)}")
    config = known[name]
    messages = utils.prompt_to_chatml((folder / config["prompt_template"]).read_text(encoding="utf-8"))
    texts = {message["role"]: message["content"] for message in messages}
    template = texts["user"]
    for theirs, ours in _PLACEHOLDERS.items():
        template = template.replace(theirs, ours)
    parser = config["completion_parser_kwargs"]
    first, (second,) = parser["numerator_token"], set(parser["denominator_tokens"]) - {parser["numerator_token"]}
    rubric = Rubric(name, template, 0.0, 1.0, system=texts.get("system", ""), tokens=(first, second))
    provider = str(config["fn_completions"]).removesuffix("_completions")
    return Annotator(name, provider, config["completions_kwargs"]["model_name"], rubric)


def model_stands_first() -> Callable[[str], bool]:
    """Return a function that returns, for an instruction, whether the model's output is shown first.

    The order is the library's random draw, seeded by the instruction; see
    ``alpaca_eval.processors.RandomSwitchTwoColumnsProcessor``. Raises ``PluginError`` if the library cannot be
    imported.
    """
    with importing():
        choice = import_module("alpaca_eval.utils").random_seeded_choice

    def is_first(instruction: str) -> bool:
        return bool(choice(seed=f"is_switched_outputs{instruction}{_SEED}", choices=[False, True]))

    return is_first


def parse(raw_completion: Mapping[str, Any], annotator: Annotator) -> float:
    """Parse the preference from a stored completion with the library's parser: 1 to 2, for the order of the prompt."""
    with importing():
        parser = import_module("alpaca_eval.completion_parsers").logprob_parser
    tokens = list(annotator.rubric.tokens or ())
    (value,) = parser(
        raw_completion, numerator_token=tokens[0], denominator_tokens=tokens, is_binarize=False, log_prob_index=0
    )
    return float(value)


def fit(annotations: Sequence[Annotation], tables: Path) -> LengthControlled:
    """Fit the length-controlled win rate as the library does for a new model, with ``df_gamed.csv`` from ``tables``.

    As in the library, an annotation has the difficulty of its row number. Raises ``PluginError`` if the library cannot
    be imported.
    """
    with importing():
        metric = import_module("alpaca_eval.metrics.glm_winrate")
        rows = [attrs.asdict(annotation) for annotation in annotations]
        with _downloads_from(metric, tables), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scikit-learn's warnings about deprecated parameters
            fitted = metric.get_length_controlled_winrate(rows, save_weights_dir=None, is_warn_extreme_changes=False)
    value, error = float(fitted["length_controlled_winrate"]), float(fitted["lc_standard_error"])
    return LengthControlled(value, error, note=f"fitted on these annotations and {GAMED}")


@contextmanager
def importing() -> Iterator[None]:
    """Import or call the library without its side effects. Raises ``PluginError`` if it cannot be imported."""
    environment, logger = dict(os.environ), logging.getLogger()
    level = logger.level
    os.environ["IS_ALPACA_EVAL_2"] = "True"
    os.environ.setdefault("LOGNAME", "tutelage")  # the library needs a user name, which may be missing in a container
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the deprecation warning of pkg_resources
            yield
    except ImportError as error:
        raise PluginError(
            f"AlpacaEval needs the library alpaca_eval; run: {install_command('alpacaeval')} ({error})"
        ) from error
    finally:
        logger.setLevel(level)
        os.environ.clear()
        os.environ.update(environment)


@contextmanager
def _downloads_from(module: Any, folder: Path) -> Iterator[None]:
    """Replace the library's download from the hub by files of a folder."""
    original = module.hf_hub_download
    module.hf_hub_download = lambda filename, **_: str(folder / filename)
    try:
        yield
    finally:
        module.hf_hub_download = original


def _weighted(folder: Path) -> dict[str, dict[str, Any]]:
    """The configurations of all annotators that weigh two tokens by log-probability and have one pair per prompt."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*/configs.yaml")):
        for name, config in yaml.safe_load(path.read_text(encoding="utf-8")).items():
            parser = config.get("completion_parser_kwargs") or {}
            two_tokens = len(set(parser.get("denominator_tokens", ())) | {parser.get("numerator_token")}) == 2
            is_weighted = config.get("fn_completion_parser") == "logprob_parser" and parser.get("is_binarize") is False
            if is_weighted and two_tokens and config.get("completions_kwargs", {}).get("max_tokens") == 1:
                found[name] = config
    return found
