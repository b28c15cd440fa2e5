"""Upload of a folder to the Hugging Face hub, as one commit. No other module of core imports huggingface_hub."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from attrs import field, frozen

from tutelage.errors import InputError, PluginError, StageError
from tutelage.installation import install_command


@frozen
class Publisher:
    """A repository of the hub, with a token to write to it."""

    repository: str
    """OWNER/NAME."""
    private: bool
    """Whether a new repository is private."""
    token: str = field(repr=False)

    def push(self, folder: Path) -> str:
        """Create the repository if it does not exist, and commit the folder. Returns the repository's address.

        Raises ``StageError`` if the hub refuses or cannot be reached. The folder is kept and can be pushed later.
        """
        from huggingface_hub import HfApi

        api = HfApi(token=self.token)
        try:
            made = api.create_repo(self.repository, private=self.private, exist_ok=True)
            api.upload_folder(folder_path=folder, repo_id=self.repository, commit_message="A model trained by tutelage")
        except Exception as error:  # the class of a connection error depends on the dependencies of huggingface_hub
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1].replace(self.token, "(token)")
            raise StageError(
                f"{self.repository}: the upload to the hub failed ({reason}); the export is complete in {folder}: "
                f"run `hf upload {self.repository} {folder}` to push it"
            ) from error
        return str(made)


def publisher(repository: str, private: bool) -> Publisher:
    """Check, before anything is written, that a model can be pushed to ``repository`` (OWNER/NAME).

    Raises ``InputError`` for an invalid name or a missing token, and ``PluginError`` if huggingface_hub is not
    installed.
    """
    if importlib.util.find_spec("huggingface_hub") is None:
        raise PluginError(f"--push needs the library huggingface_hub; run: {install_command('transformers')}")
    from huggingface_hub import get_token

    _check_name(repository)
    token: Any = get_token()
    if not token:
        raise InputError(
            "--push: no token for the hub; set HF_TOKEN to a token with write access "
            "(https://huggingface.co/settings/tokens)"
        )
    return Publisher(repository, private, str(token))


def _check_name(repository: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # lazily exported

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise InputError(f"--push {repository}: not a valid repository name: {error}") from error
    if "/" not in repository:
        raise InputError(f"--push {repository}: the owner is missing; give OWNER/NAME")
