"""A folder to the Hugging Face hub, as one commit. The only place in core that imports its library."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from attrs import field, frozen

from tutelage.errors import InputError, PluginError, StageError


@frozen
class Publisher:
    """A repository of the hub that a model will go to, and the right to write there."""

    repository: str
    private: bool
    token: str = field(repr=False)

    def push(self, folder: Path) -> str:
        """Make the repository, where there is none, and commit the folder; returns its address.

        Raises StageError where the hub refuses or cannot be reached: the folder stays, and can be pushed later.
        """
        from huggingface_hub import HfApi

        api = HfApi(token=self.token)
        try:
            made = api.create_repo(self.repository, private=self.private, exist_ok=True)
            api.upload_folder(folder_path=folder, repo_id=self.repository, commit_message="A model trained by tutelage")
        except Exception as error:  # which class a lost connection has changes with the hub library's own dependencies
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1].replace(self.token, "(token)")
            raise StageError(
                f"{self.repository}: the hub did not take it ({reason}); the export is whole in {folder}: "
                f"`hf upload {self.repository} {folder}` pushes it"
            ) from error
        return str(made)


def publisher(repository: str, private: bool) -> Publisher:
    """Check, before anything is written, that a model can go to ``repository`` (OWNER/NAME).

    Raises InputError for a name that the hub could not have and where no token is set, PluginError where the hub's
    library is not installed.
    """
    if importlib.util.find_spec("huggingface_hub") is None:
        raise PluginError("--push needs the hub's library; run: pip install huggingface_hub")
    from huggingface_hub import get_token

    _check_name(repository)
    token: Any = get_token()
    if not token:
        raise InputError(
            "--push: no token for the hub; set HF_TOKEN to one that may write (https://huggingface.co/settings/tokens)"
        )
    return Publisher(repository, private, str(token))


def _check_name(repository: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # lazily exported

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise InputError(f"--push {repository}: no name of the hub: {error}") from error
    if "/" not in repository:
        raise InputError(f"--push {repository}: whose? Give OWNER/NAME")
