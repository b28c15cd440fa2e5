"""What is taken from the library alpaca_eval 0.6.6: annotators, the seeded order of a pair, the length-controlled fit.

Importing it loads a ``.env`` file into the environment, turns the root logger up, needs a user name and
``pkg_resources``; its fit downloads a table from the hub and writes weights into the installed package. None of that
reaches the user: it is imported and called here alone, the environment and the logger are put back, and what it would
download is read from a folder.
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
from tutelage.records import Rubric

INSTALL_HINT = "AlpacaEval needs the library alpaca_eval: pip install 'tutelage[alpacaeval]'"
GAMED = "df_gamed.csv"
"""The table that a new model's fit needs: annotations of the two variants of the baseline (tatsu-lab/alpaca_eval)."""
_PLACEHOLDERS = {"{instruction}": "{prompt}", "{output_1}": "{first}", "{output_2}": "{second}"}
_SEED = 0
"""Of the order in which two outputs stand: the one that the leaderboard's annotations were made with."""


@frozen
class Annotator:
    """An annotator of the library that weighs two tokens by their log-probabilities."""

    name: str
    provider: str
    """The service that it was made for, as the library names it: ``openai``."""
    model: str
    """The API model that it was made for."""
    rubric: Rubric


def load_annotator(name: str = ANNOTATOR) -> Annotator:
    """An annotator by its name in the library. Raises ``InputError`` where there is none of that kind."""
    with importing():
        utils = import_module("alpaca_eval.utils")
        folder = Path(import_module("alpaca_eval.constants").EVALUATORS_CONFIG_DIR)
    known = _weighted(folder)
    if name not in known:
        raise InputError(f"no annotator {name!r} that is weighted by log-probabilities{nearest(name, known)}")
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
    """Says of an instruction whether the model's output is shown first: the library's draw, seeded by the instruction.

    See ``alpaca_eval.processors.RandomSwitchTwoColumnsProcessor``.
    """
    with importing():
        choice = import_module("alpaca_eval.utils").random_seeded_choice

    def stands_first(instruction: str) -> bool:
        return bool(choice(seed=f"is_switched_outputs{instruction}{_SEED}", choices=[False, True]))

    return stands_first


def parse(raw_completion: Mapping[str, Any], annotator: Annotator) -> float:
    """What the library's own parser reads from a stored completion: 1 to 2, for the order in which it was asked."""
    with importing():
        parser = import_module("alpaca_eval.completion_parsers").logprob_parser
    tokens = list(annotator.rubric.tokens or ())
    (value,) = parser(
        raw_completion, numerator_token=tokens[0], denominator_tokens=tokens, is_binarize=False, log_prob_index=0
    )
    return float(value)


def fit(annotations: Sequence[Annotation], tables: Path) -> LengthControlled:
    """Fit the length-controlled win rate as the library does for a new model, on ``df_gamed.csv`` from ``tables``.

    Rows take the difficulty of their row number, as in the library.
    """
    with importing():
        metric = import_module("alpaca_eval.metrics.glm_winrate")
        rows = [attrs.asdict(annotation) for annotation in annotations]
        with _downloads_from(metric, tables), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of scikit-learn, on parameters that the library still uses
            fitted = metric.get_length_controlled_winrate(rows, save_weights_dir=None, is_warn_extreme_changes=False)
    value, error = float(fitted["length_controlled_winrate"]), float(fitted["lc_standard_error"])
    return LengthControlled(value, error, note=f"fitted on these annotations and {GAMED}")


@contextmanager
def importing() -> Iterator[None]:
    """Import or call the library without its side effects. Raises ``PluginError`` where it can't be imported."""
    environment, logger = dict(os.environ), logging.getLogger()
    level = logger.level
    os.environ["IS_ALPACA_EVAL_2"] = "True"
    os.environ.setdefault("LOGNAME", "tutelage")  # it asks for the user's name, which a container may not have
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pkg_resources
            yield
    except ImportError as error:
        raise PluginError(f"{INSTALL_HINT} ({error})") from error
    finally:
        logger.setLevel(level)
        os.environ.clear()
        os.environ.update(environment)


@contextmanager
def _downloads_from(module: Any, folder: Path) -> Iterator[None]:
    """Let the library read from a folder what it would download from the hub."""
    original = module.hf_hub_download
    module.hf_hub_download = lambda filename, **_: str(folder / filename)
    try:
        yield
    finally:
        module.hf_hub_download = original


def _weighted(folder: Path) -> dict[str, dict[str, Any]]:
    """The configurations of all annotators that weigh two tokens for one pair a prompt."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*/configs.yaml")):
        for name, config in yaml.safe_load(path.read_text(encoding="utf-8")).items():
            parser = config.get("completion_parser_kwargs") or {}
            two_tokens = len(set(parser.get("denominator_tokens", ())) | {parser.get("numerator_token")}) == 2
            weighs = config.get("fn_completion_parser") == "logprob_parser" and parser.get("is_binarize") is False
            if weighs and two_tokens and config.get("completions_kwargs", {}).get("max_tokens") == 1:
                found[name] = config
    return found
