"""The page about a run, and the page that compares runs: one HTML file without any request, made by a template.

The Content-Security-Policy of the page forbids everything except its own style sheet and its own script, which it names
by their hashes. All texts are escaped by the template; the script sets texts as text only.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tutelage.errors import InputError
from tutelage.files.whole import write_whole
from tutelage.installation import install_command
from tutelage.planning.artifacts import REPORT
from tutelage.recipe.differences import shown
from tutelage.report import tables
from tutelage.report.answers import ShownAnswers
from tutelage.report.compared import ComparedContents, read_compared
from tutelage.report.contents import Contents, read_contents
from tutelage.report.hidden import HIDDEN, code_point
from tutelage.report.packing import LONGEST, Packed, pack
from tutelage.report.plots import (
    Plot,
    compared_plots,
    curve_plots,
    difference_plots,
    gain_plots,
    measure_plots,
    model_plots,
)
from tutelage.results.comparing import ModelsCompared
from tutelage.results.selecting import SelectedModel
from tutelage.results.wording import metric_words, p_words, seconds_words

EXTRA = "report"
"""The extra with the libraries that the page needs."""
_FOLDER = Path(__file__).parent
_INTERVAL = re.compile(r"[+-]?[\d.]+ \[[+-]?[\d.]+, [+-]?[\d.]+\]")


def write_report(root: Path, output: Path | None = None) -> Path:
    """Write the page about the run in a folder, by default to ``report.html`` in it. Returns the path of the page.

    Raises InputError if the folder contains no run, the run is not finished, an artifact is damaged, or the libraries
    of the extra ``report`` are not installed.
    """
    check_libraries()
    path = output or root / REPORT
    _write(page(read_contents(root)), path)
    return path


def write_comparison(models: Sequence[SelectedModel], compared: ModelsCompared, output: Path) -> None:
    """Write the page that compares models of one or several runs. ``models`` are those that were compared.

    Raises InputError if an artifact is damaged, or the libraries of the extra ``report`` are not installed.
    """
    check_libraries()
    _write(comparison_page(read_compared(models, compared)), output)


def _write(text: str, path: Path) -> None:
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8", errors="replace", newline="\n"))


def check_libraries() -> None:
    """Raise InputError if a library that the page needs is not installed."""
    if missing := missing_libraries():
        raise InputError(f"the report needs {' and '.join(missing)}; run: {install_command(EXTRA)}")


def missing_libraries() -> list[str]:
    """Return the names of the libraries that the page needs and that cannot be imported."""
    missing = []
    try:
        import jinja2  # noqa: F401
    except ImportError:
        missing.append("Jinja2")
    try:
        import vl_convert  # noqa: F401
    except ImportError:
        missing.append("vl-convert-python")
    return missing


def page(contents: Contents) -> str:
    """Return the page about a run as HTML. The same contents always give the same page."""
    return _rendered(
        "page.html.j2",
        contents.answers,
        contents=contents,
        gain_plots=_marked(gain_plots(contents)),
        model_plots=_marked(model_plots(contents)),
        measure_plots=_marked(measure_plots(contents)),
        curve_plots=_marked(curve_plots(contents)),
    )


def comparison_page(contents: ComparedContents) -> str:
    """Return the page that compares models as HTML. The same contents always give the same page."""
    return _rendered(
        "compare.html.j2",
        contents.answers,
        contents=contents,
        difference_plots=_marked(difference_plots(contents)),
        model_plots=_marked(compared_plots(contents)),
    )


def _rendered(template: str, answers: ShownAnswers | None, **values: Any) -> str:
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "shown": _shown,
        "unbroken": _unbroken,
        "metric": metric_words,
        "seconds": seconds_words,
        "p": p_words,
        "value": shown,
    }
    style, script = (_source(name) for name in ("page.css", "reader.js"))
    packed = pack(answers) if answers else None
    return environment.get_template(template).render(
        tables=tables,
        policy=policy(style, script),
        style=Markup(style),
        script=Markup(script),
        packed=packed,
        notes=list(_notes(packed)) if packed else [],
        **values,
    )


def policy(style: str, script: str) -> str:
    """Return the Content-Security-Policy that allows one style sheet and one script and forbids everything else."""
    return (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'; "
        "form-action 'none'"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _source(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _marked(plots: Iterator[Plot]) -> Sequence[Any]:
    from markupsafe import Markup

    return [{"title": plot.title, "svg": Markup(plot.svg)} for plot in plots]


def _shown(text: object) -> Any:
    """The text escaped, with each hidden character as its code point."""
    from markupsafe import Markup, escape

    parts, end = [], 0
    value = str(text)
    for found in HIDDEN.finditer(value):
        parts += [
            escape(value[end : found.start()]),
            Markup('<span class="code">{}</span>').format(code_point(found[0])),
        ]
        end = found.end()
    return Markup("").join([*parts, escape(value[end:])])


def _unbroken(text: str) -> str:
    """The text with spaces that do not break the line within a value and its interval."""
    return _INTERVAL.sub(lambda found: found[0].replace(" ", "\u00a0"), text)


def _notes(packed: Packed) -> Iterator[str]:
    yield f"A text with more than {LONGEST:,} characters is cut here; a note names the file with the whole text."
    if packed.reasons == 0:
        yield "The evaluator's reasons are left out to keep this page small; they are in the files of the run."
    elif packed.reasons < 2000:
        yield f"The evaluator's reasons are cut after {packed.reasons} characters to keep this page small."
    if not packed.has_judged:
        yield "The sampled answers are left out to keep this page small; they are in the files of the run."
