"""The built wheel, installed alone: an editable install exposes files that a wheel may lack."""

import json
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of commands of an empty environment with the wheel and its own requirements, and nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(REPOSITORY)]
    subprocess.run(build, check=True, capture_output=True)
    venv.create(folder / "venv")
    (wheel,) = folder.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "venv/bin/python"), "install", "--quiet"]
    options = ["--no-compile", "--constraint", str(REPOSITORY / "constraints.txt")]
    subprocess.run([*pip, *options, str(wheel)], check=True, capture_output=True)
    return folder / "venv" / "bin"


def output_of(installed: Path, *arguments: str) -> str:
    command = [str(installed / arguments[0]), *arguments[1:]]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=installed).stdout


def test_every_plugin_that_ships_is_found_without_any_of_the_heavy_libraries(installed: Path) -> None:
    plugins = json.loads(output_of(installed, "tutelage", "plugins", "--json"))
    statuses = {plugin["name"]: plugin["status"] for plugin in plugins}
    assert statuses == dict.fromkeys(("gemini", "openai", "tiny", "transformers"), "ok")
    assert all(plugin["distribution"] == "tutelage" for plugin in plugins)


def test_the_recipes_and_the_embedded_plan_are_in_the_wheel(installed: Path) -> None:
    """A plan needs no heavy library: it says that the student is not checked. A run ends before its first step."""
    assert "embedded" in output_of(installed, "tutelage", "recipes")
    missing = "torch, transformers, trl, peft, "
    for action, code in (("plan", 0), ("run", 2)):
        command = [str(installed / "tutelage"), action, "embedded", "--run", str(installed.parent / "run")]
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=installed)
        assert done.returncode == code, done.stderr
        assert missing in done.stderr
        assert re.search(r"pip install 'tutelage\[transformers\] @ file://\S+\.whl'", done.stderr), done.stderr
        assert ("embedded: 96 steps, 10 models" in done.stdout) is (action == "plan")
    assert not (installed.parent / "run").exists()


def test_the_template_of_the_report_is_in_the_wheel(installed: Path) -> None:
    program = (
        "from pathlib import Path; import tutelage.report;"
        "print(sorted(path.name for path in Path(tutelage.report.__file__).parent.iterdir()))"
    )
    files = output_of(installed, "python", "-c", program)
    assert all(repr(name) in files for name in ("page.html.j2", "page.css", "reader.js"))


def test_the_embedded_weights_are_in_the_wheel(installed: Path) -> None:
    program = (
        "from pathlib import Path; import tutelage_tiny;"
        "folder = Path(tutelage_tiny.describe().models['student'].location);"
        "print(sorted(path.name for path in folder.iterdir()))"
    )
    files = output_of(installed, "python", "-c", program)
    assert "model.safetensors" in files
    assert "tokenizer.json" in files
