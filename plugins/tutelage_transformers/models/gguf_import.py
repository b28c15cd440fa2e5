"""A folder that transformers loads, from a GGUF file of a Gemma model. The tensors are dequantised to bfloat16.

transformers reads GGUF files with the package ``gguf``, which the plugin does not require. So the conversion runs in a
process of its own (started by ``python_command``), on whose path an unpacked ``gguf`` is: nothing is installed.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from tutelage.child_processes import python_command, python_environment
from tutelage.errors import StageError
from tutelage.files.disk_errors import error_text
from tutelage.plugin_info import Package
from tutelage_transformers.models.finding import require
from tutelage_transformers.models.shards import share_files

GGUF_PACKAGE = Package(
    name="gguf",
    version="0.19.0",
    sha256="70bcd10edfe697fb2dad6e40af2234b9d8ece9a41a99761405121ebda1c3c1cd",
    size=118_475,
)
"""The package that reads GGUF files (MIT licence), of which the folder is given to ``convert_gguf``."""
_LAST_LINES = 5


def convert_gguf(file: Path, output: Path, path: Path, weights: str, tokens: Mapping[str, str]) -> None:
    """Write the model and the tokenizer of a GGUF file into the empty folder ``output``.

    ``path`` is the folder of the unpacked package ``gguf``. ``weights`` is the expected ``weights_digest``. ``tokens``
    are texts, each with the numbers of its tokens separated by spaces: files of another tokenizer would be read without
    an error. Raises ``PluginError`` if a package is missing, and ``StageError`` if the conversion fails or if the
    tensors or the tokens are other ones.
    """
    from tutelage_transformers.models.tokenizers import read_tokenizer

    require("torch", "transformers", "safetensors")
    done = subprocess.run(
        python_command("tutelage_transformers.models.gguf_import", str(file), str(output)),
        env={**python_environment([str(path)]), "TQDM_DISABLE": "1", "TRANSFORMERS_VERBOSITY": "error"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        reason = "\n".join(done.stderr.strip().splitlines()[-_LAST_LINES:])
        raise StageError(
            f"{file.name}: it cannot be converted (the process ended with code {done.returncode}; a negative code is "
            f"a signal, and -9 usually means too little memory):\n{reason}"
        )
    if (found := weights_digest(output)) != weights:
        raise StageError(
            f"{file.name}: the dequantised weights have the digest {found}, not {weights}, so they are not the model "
            f"that was measured; {_other_versions('torch', 'transformers')}"
        )
    tokenizer = read_tokenizer(str(output), local_only=True)
    for text, expected in tokens.items():
        if (numbers := " ".join(map(str, tokenizer(text).input_ids))) != expected:
            raise StageError(
                f"{file.name}: the tokenizer reads {text!r} as the tokens {numbers}, not {expected}, so it is not that "
                f"of the model; {_other_versions('transformers', 'tokenizers')}"
            )


def _other_versions(*packages: str) -> str:
    installed = " and ".join(f"{package} {version(package)}" for package in packages)
    return f"this was found with {installed}: install other versions, such as those in tutelage's constraints.txt"


def weights_digest(folder: Path) -> str:
    """Return the SHA-256 over the sorted SHA-256 digests of the tensors in ``model.safetensors``.

    It depends neither on the names of the tensors nor on their order, which differ between versions of transformers.
    """
    import torch
    from safetensors import safe_open

    with safe_open(str(folder / "model.safetensors"), "pt") as file:
        tensors = (file.get_tensor(name).contiguous().view(torch.uint8) for name in file.keys())  # noqa: SIM118
        digests = sorted(hashlib.sha256(tensor.numpy().tobytes()).hexdigest() for tensor in tensors)
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _convert(file: Path, output: Path) -> None:
    """The work of the process. A new model gets the weights, because the loaded one may keep marks of quantisation."""
    import copy

    import torch
    from transformers import AutoModelForCausalLM

    from tutelage_transformers.models.gemma_tokenizer import write_gemma_tokenizer

    loaded = AutoModelForCausalLM.from_pretrained(str(file.parent), gguf_file=file.name, dtype=torch.bfloat16)
    config = copy.deepcopy(loaded.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config._name_or_path = ""
    plain = type(loaded)(config).to(torch.bfloat16)
    plain.load_state_dict(loaded.state_dict())
    plain.save_pretrained(output)
    share_files(output)
    write_gemma_tokenizer(file, output)


if __name__ == "__main__":
    try:
        _convert(Path(sys.argv[1]), Path(sys.argv[2]))
    except Exception as error:
        sys.exit(error_text(error))
