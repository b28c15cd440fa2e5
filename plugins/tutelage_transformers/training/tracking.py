"""Reports to experiment trackers by transformers' callbacks, so that a killed training that continues is one run.

transformers' callbacks begin a new run after a kill, or a second curve in the same run. Here, each tracker is asked for
the last step that it has, and gets only the steps after it. A tracker that stores in the background may have lost the
last steps before a kill: they are in the log of the training checkpoint, and are reported from there.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from copy import copy
from functools import cache
from hashlib import sha256
from typing import Any

from tutelage.context import Tracking
from tutelage.errors import nearest


def problems(names: Sequence[str]) -> Iterator[str]:
    """Yield a problem for each tracker that transformers does not know, or whose package is not installed."""
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    for name in names:
        if name not in INTEGRATION_TO_CALLBACK:
            yield f"{name!r} is unknown{nearest(name, INTEGRATION_TO_CALLBACK)}"
            continue
        try:
            INTEGRATION_TO_CALLBACK[name]()
        except (RuntimeError, ImportError) as error:
            yield f"{name}: not installed or not configured: {error} Try: pip install {name.replace('_', '-')}"


def name_run(arguments: Any, tracking: Tracking) -> None:
    """Set the names by which transformers' callbacks find the tracked run."""
    arguments.run_name, arguments.project = tracking.run, tracking.project


def report(tracking: Tracking, metrics: Mapping[str, float], step: int) -> None:
    """Add the metrics of a finished step of a run to the tracked run. In the trackers, their names begin with eval/."""
    from transformers import TrainerControl, TrainerState, TrainingArguments

    arguments = TrainingArguments(output_dir=str(tracking.folder), report_to="none", use_cpu=True)
    name_run(arguments, tracking)
    state, control = TrainerState(global_step=step), TrainerControl()
    for tracker in _trackers(tracking):
        tracker.begin(arguments, state, control, None)
        tracker.call("on_log", arguments, state, control, logs={f"eval_{name}": metrics[name] for name in metrics})
        tracker.end(arguments, state, control)


class _Tracker:
    """One tracker, by transformers' callback."""

    def __init__(self, name: str, tracking: Tracking) -> None:
        from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

        self.name, self.tracking = name, tracking
        self.reported = 0
        """The last step of the training that the tracker has."""
        if name == "wandb":
            id = sha256(tracking.run.encode()).hexdigest()[:16]
            os.environ.update(WANDB_RUN_ID=id, WANDB_RESUME="allow")
            os.environ.setdefault("WANDB_PROJECT", tracking.project)
        self.callback = INTEGRATION_TO_CALLBACK[name]()

    def call(self, event: str, *arguments: Any, **keywords: Any) -> None:
        """Call a function of the callback. What trackers print is no output of tutelage."""
        with redirect_stdout(io.StringIO()):
            getattr(self.callback, event)(*arguments, **keywords)

    def begin(self, arguments: Any, state: Any, control: Any, resumed: int | None, **keywords: Any) -> None:
        """Open the tracked run. ``resumed`` is the step that a training continues after; None if nothing is trained."""
        if self.name == "tensorboard":
            self._open_event_file(resumed)
        self.call("on_train_begin", arguments, state, control, **keywords)
        if self.name == "trackio":
            self.reported = _last_step_in_trackio(self.tracking)
        elif self.name == "wandb":
            self.reported = int(self.callback._wandb.run.summary.get("train/global_step") or 0)

    def _open_event_file(self, resumed: int | None) -> None:
        """Each attempt has its own file; readers drop the steps of earlier files from ``purge_step`` on."""
        folder = self.tracking.folder / "tensorboard" / self.tracking.run
        self.reported = resumed or 0 if any(folder.glob("*")) else 0
        purge = None if resumed is None else self.reported + 1
        self.callback.tb_writer = self.callback._SummaryWriter(str(folder), purge_step=purge)

    def end(self, arguments: Any, state: Any, control: Any) -> None:
        """Close the tracked run. The next model has another one."""
        self.call("on_train_end", arguments, state, control)
        if self.name == "wandb":
            self.callback._wandb.finish()


def _trackers(tracking: Tracking) -> list[_Tracker]:
    return [_Tracker(name, tracking) for name in tracking.trackers]


def _last_step_in_trackio(tracking: Tracking) -> int:
    from trackio.sqlite_storage import SQLiteStorage

    rows = SQLiteStorage.get_logs(tracking.project, tracking.run)
    return max((int(row["train/global_step"]) for row in rows if "train/loss" in row), default=0)


@cache
def tracking_callback() -> type[Any]:
    """Return the class of a trainer callback that reports a training to trackers; its argument is a ``Tracking``."""
    from transformers.trainer_callback import TrainerCallback

    class Tracked(TrainerCallback):  # type: ignore[misc]  # transformers is not followed
        def __init__(self, tracking: Tracking) -> None:
            self.tracking = tracking
            self.trackers: list[_Tracker] = []

        def on_train_begin(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
            if not state.is_world_process_zero:
                return
            self.trackers = _trackers(self.tracking)
            for tracker in self.trackers:
                tracker.begin(args, state, control, state.global_step, **keywords)
            for row in state.log_history:
                earlier = copy(state)
                earlier.global_step, earlier.epoch = row["step"], row.get("epoch")
                logs = {name: value for name, value in row.items() if name != "step"}
                self.on_log(args, earlier, control, logs=logs)

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **keywords: Any) -> None:
            for tracker in self.trackers:
                if "loss" not in logs or state.global_step > tracker.reported:
                    tracker.call("on_log", args, state, control, logs=logs, **keywords)

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            for tracker in self.trackers:
                tracker.end(args, state, control)

    return Tracked
