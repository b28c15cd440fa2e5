"""Reward models: classifiers with one label, recognised by ``architectures`` in their config.json."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from tutelage.errors import InputError
from tutelage_transformers.models.finding import explain_read_errors, folder_of, is_local

CLASSIFIER = "ForSequenceClassification"
"""End of the names of transformers' classes of classifiers."""


def is_reward_model(name: str, local_only: bool) -> bool:
    """Return whether the model at ``name``, a folder or a hub name, is a classifier.

    The configuration of a model that is not on this machine is read from the hub. Raises ``InputError`` if the model
    does not exist or its configuration cannot be read.
    """
    folder = folder_of(name)
    file = None if folder is None else Path(folder, "config.json")
    return _is_classifier(name, local_only, file.stat().st_mtime_ns if file is not None and file.is_file() else 0)


@lru_cache(maxsize=64)  # asked at every chunk of answers
def _is_classifier(name: str, local_only: bool, changed: int) -> bool:
    """Whether a model is a classifier; ``changed`` is the time of the last change of its configuration."""
    is_local(name, local_only)
    folder = folder_of(name)
    if folder is not None:
        return is_classifier(json.loads(Path(folder, "config.json").read_text(encoding="utf-8")).get("architectures"))
    from transformers.models.auto.configuration_auto import AutoConfig

    with explain_read_errors(name):
        config = AutoConfig.from_pretrained(name, local_files_only=local_only, trust_remote_code=False)
    return is_classifier(config.architectures)


def is_classifier(architectures: Any) -> bool:
    """Return whether the value of ``architectures`` in a config.json names a classifier of sequences."""
    return isinstance(architectures, list) and any(str(one).endswith(CLASSIFIER) for one in architectures)


def problem(config: Any) -> str:
    """Return why a classifier of this configuration is no reward model, or an empty text if it is one."""
    if config.num_labels == 1:
        return ""
    return f"it is a classifier with {config.num_labels} labels; a reward model has one: use another model"


def check_is_reward_model(name: str, config: Any) -> None:
    """Raise ``InputError`` if a classifier of this configuration is no reward model."""
    if reason := problem(config):
        raise InputError(f"model {name}: {reason}")
