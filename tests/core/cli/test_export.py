"""``tutelage export``: all inputs are checked first, and the export is complete or not written at all."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result
from hub_server import Hub, running_hub

Invoke = Callable[..., Result]
Real = Callable[..., subprocess.CompletedProcess[str]]
CHECKPOINT = "seed-0/self-reward/M2/checkpoint"


@pytest.fixture
def exported(invoke: Invoke, golden: Path, tmp_path: Path) -> Path:
    """The exported folder of M2/self-reward of the golden run; its checkpoint has a generation_config.json."""
    settings = {"eos_token_id": 0, "pad_token_id": 2}
    (golden / CHECKPOINT / "generation_config.json").write_text(json.dumps(settings))
    (golden / CHECKPOINT / "adapter").mkdir()
    (golden / CHECKPOINT / "adapter/adapter_model.safetensors").write_bytes(b"adapter")
    result = invoke("export", golden, "M2/self-reward", "out/my-model")
    assert result.exit_code == 0, result.output
    assert result.stdout == "exported M2/self-reward to out/my-model\n"
    return tmp_path / "out/my-model"


def test_the_folder_holds_the_checkpoint_and_a_card(exported: Path, golden: Path) -> None:
    files = {str(path.relative_to(exported)) for path in exported.rglob("*") if path.is_file()}
    assert files == {"README.md", "adapter/adapter_model.safetensors", "generation_config.json", "weights.json"}
    assert (exported / "weights.json").read_bytes() == (golden / CHECKPOINT / "weights.json").read_bytes()
    assert [path.name for path in exported.parent.iterdir()] == ["my-model"]


def test_other_tools_sample_as_the_model_did_when_it_learned(exported: Path, golden: Path) -> None:
    written = json.loads((exported / "generation_config.json").read_text())
    assert written == {"eos_token_id": 0, "pad_token_id": 2, "do_sample": True, "temperature": 0.7, "top_p": 0.9}
    assert "do_sample" not in json.loads((golden / CHECKPOINT / "generation_config.json").read_text())


def test_what_was_sampled_greedily_is_greedy_elsewhere(invoke: Invoke, golden: Path, tmp_path: Path) -> None:
    (golden / CHECKPOINT / "generation_config.json").write_text("{}")
    recipe = golden / "recipe.yaml"
    before, generation, after = recipe.read_text().partition("\ngeneration:")
    recipe.write_text(before + generation + after.replace("temperature: 0.7", "temperature: 0", 1))
    assert invoke("export", golden, "M2/self-reward", "out").exit_code == 0
    assert json.loads((tmp_path / "out/generation_config.json").read_text()) == {"do_sample": False}


def test_the_run_is_not_changed(invoke: Invoke, golden: Path) -> None:
    before = {path: path.read_bytes() for path in golden.rglob("*") if path.is_file()}
    assert golden / CHECKPOINT / "weights.json" in before
    assert invoke("export", golden, "M2/self-reward", "out").exit_code == 0
    assert {path: path.read_bytes() for path in golden.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("M2/self-rewards", "no model 'M2/self-rewards'; did you mean 'M2/self-reward'?"),
        ("M0", "M0 is the base model: nothing was trained"),
    ],
)
def test_a_model_that_cannot_be_exported_is_named(invoke: Invoke, golden: Path, model: str, message: str) -> None:
    result = invoke("export", golden, model, "out")
    assert result.exit_code == 2
    assert message in result.stderr
    assert not Path("out").exists()


def test_a_model_that_is_not_trained_yet_is_named_with_those_that_are(invoke: Invoke, golden: Path) -> None:
    shutil.rmtree(golden / CHECKPOINT)
    assert "M2/self-reward is not trained yet; the finished models are M0, M1" in (
        invoke("export", golden, "M2/self-reward", "out").stderr
    )


def test_a_seed_that_the_run_does_not_have_is_named(invoke: Invoke, golden: Path) -> None:
    assert "no seed 7; the seeds of this run are 0" in invoke("export", golden, "M1", "out", "--seed", 7).stderr


def test_nothing_is_ever_written_over(invoke: Invoke, golden: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").touch()
    result = invoke("export", golden, "M1", "out")
    assert result.exit_code == 2
    assert "out: already exists and is not empty; choose another folder" in result.stderr
    (tmp_path / "out/mine").unlink()
    assert invoke("export", golden, "M1", "out").exit_code == 0


def test_a_failure_leaves_nothing_behind(invoke: Invoke, golden: Path, tmp_path: Path) -> None:
    (golden / "summary.json").write_text("{}")
    result = invoke("export", golden, "M1", "out/model")
    assert result.exit_code == 2
    assert "not a summary of schema 1" in result.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_a_plugin_that_does_not_convert_says_so(invoke: Invoke, golden: Path) -> None:
    result = invoke("export", golden, "M1", "out", "--dtype", "bfloat16")
    assert result.exit_code == 3
    assert "cannot convert checkpoints; leave out --format, --dtype and --quantize" in result.stderr
    assert not Path("out").exists()


def test_a_model_is_exported_as_one_file_for_llama_cpp_and_a_modelfile_for_ollama(
    invoke: Invoke, golden: Path, tmp_path: Path
) -> None:
    from small_models import write_small_model

    write_small_model("llama", golden / CHECKPOINT)
    recipe = golden / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("plugin: numbers", "plugin: transformers", 1))
    result = invoke("export", golden, "M2/self-reward", "out", "--format", "gguf", "--dtype", "float16")
    assert result.exit_code == 0, result.output
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"README.md", "Modelfile", "model.gguf"}
    lines = (tmp_path / "out/Modelfile").read_text().splitlines()
    assert lines[0] == "FROM ./model.gguf"
    assert {"PARAMETER temperature 0.7", "PARAMETER top_p 0.9", 'PARAMETER stop "<|endoftext|>"'} <= set(lines)
    card = (tmp_path / "out/README.md").read_text()
    assert "ollama create my-model -f Modelfile" in card
    assert "The weights are in the format GGUF, in float16; the results below were measured before" in card
    assert "adapter/" not in card and "pipeline(" not in card


def test_gguf_is_not_quantised_by_the_export(invoke: Invoke, golden: Path) -> None:
    result = invoke("export", golden, "M1", "out", "--format", "gguf", "--quantize", "4bit")
    assert result.exit_code == 2
    assert "run `llama-quantize` of llama.cpp" in result.stderr
    assert not Path("out").exists()


def test_private_is_nothing_without_push(invoke: Invoke, golden: Path) -> None:
    assert "--private requires --push" in invoke("export", golden, "M1", "out", "--private").stderr


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A local hub server. Commands started afterwards use it, with a write token."""
    with running_hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        monkeypatch.setenv("HF_TOKEN", "hf_canary")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        yield server


def test_a_model_is_pushed_as_it_was_exported(hub: Hub, real: Real, golden: Path, tmp_path: Path) -> None:
    (golden / CHECKPOINT / "config.json").write_text("{}")  # a folder for transformers, as the card sees it
    found = real("export", golden, "M2/self-reward", "out", "--push", "me/my-model", "--private")
    assert found.returncode == 0, found.stderr
    assert f"uploaded to the hub: {hub.address}/me/my-model" in found.stdout
    [created] = hub.created
    assert created == {"name": "my-model", "organization": "me", "visibility": "private"}
    assert hub.files == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert b"pipeline('text-generation', 'me/my-model')" in hub.files["README.md"]
    assert hub.tokens == {"Bearer hf_canary"}


def test_a_hub_that_refuses_leaves_the_export_and_keeps_the_token(
    hub: Hub, real: Real, golden: Path, tmp_path: Path
) -> None:
    hub.refusal = 403
    found = real("export", golden, "M1", "out", "--push", "me/my-model")
    assert found.returncode == 6
    assert "me/my-model: the upload to the hub failed" in found.stderr
    assert "run `hf upload me/my-model out` to push it" in found.stderr
    assert (tmp_path / "out/README.md").is_file()
    assert "hf_canary" not in found.stderr + found.stdout and "Traceback" not in found.stderr


@pytest.mark.parametrize(
    ("name", "token", "message"),
    [
        ("me/my-model", "", "--push: no token for the hub; set HF_TOKEN to a token with write access"),
        ("my-model", "hf_canary", "--push my-model: the owner is missing; give OWNER/NAME"),
        ("me/my--model", "hf_canary", "--push me/my--model: not a valid repository name"),
    ],
)
def test_what_is_wrong_with_a_push_is_said_before_anything_is_copied(
    hub: Hub,
    monkeypatch: pytest.MonkeyPatch,
    golden: Path,
    tmp_path: Path,
    name: str,
    token: str,
    message: str,
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    real: Real = request.getfixturevalue("real")
    found = real("export", golden, "M1", "out", "--push", name)
    assert found.returncode == 2
    assert message in found.stderr
    assert not (tmp_path / "out").exists() and not hub.created
