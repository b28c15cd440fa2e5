from collections.abc import Callable
from pathlib import Path

from tutelage_transformers.checking import check
from tutelage_transformers.settings import TransformersSettings


def findings_of(name: str, settings: TransformersSettings | None = None) -> dict[str, tuple[bool, str]]:
    return {finding.what: (finding.ok, finding.detail) for finding in check(settings, name)}


def test_libraries_device_weights_and_tokenizer_are_reported(base: Path) -> None:
    found = findings_of(str(base))
    assert list(found) == ["libraries", "GPU", "model", "tokenizer"]
    assert all(ok for ok, _ in found.values())
    assert "transformers" in found["libraries"][1]
    assert "processor threads" in found["GPU"][1] or "GiB" in found["GPU"][1]
    assert found["model"][1] == f"{base} is on this machine"
    assert found["tokenizer"][1] == "has an end token; the model sees 128 tokens at once"


def test_a_tokenizer_without_an_end_token_is_a_finding(make_base: Callable[..., Path]) -> None:
    folder = make_base()
    config = folder / "tokenizer_config.json"
    config.write_text(config.read_text().replace('"eos_token": "<|endoftext|>",', ""))
    ok, detail = findings_of(str(folder))["tokenizer"]
    assert not ok and "it has no end token" in detail


def test_missing_weights_are_a_finding(tmp_path: Path) -> None:
    ok, detail = findings_of(str(tmp_path / "nothing"))["model"]
    assert not ok
    assert "there is no such folder" in detail


def test_weights_that_may_not_be_downloaded_are_a_finding() -> None:
    ok, detail = findings_of("nobody/nothing", TransformersSettings(local_files_only=True))["model"]
    assert not ok
    assert "local_files_only is set" in detail
