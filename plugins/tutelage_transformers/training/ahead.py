"""Start the processes of a run that trains on several devices while the run is checked.

They import their libraries and form their process group meanwhile, which the first training would wait for.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

from tutelage.errors import InputError
from tutelage.plugin_info import RunNeeds
from tutelage_transformers.devices import parallel
from tutelage_transformers.devices.capacity import Capacity
from tutelage_transformers.processes import pool
from tutelage_transformers.settings import TransformersSettings
from tutelage_transformers.training import together


def start(settings: TransformersSettings, needs: RunNeeds, capacity: Capacity | None) -> Sequence[str]:
    """Start the processes before the checks of a run, on the devices that torch is expected to find.

    Torch is not imported, because this process needs seconds for that, too. Returns the devices; none if nothing was
    started: before a command that only checks, or if the run does not train on several devices of this machine.
    """
    devices = _expected_devices(settings, capacity) if _trains(settings, needs) else ()
    if len(devices) < 2 or pool.current() is not None:
        return ()
    with suppress(InputError):  # of a batch that they cannot share, which is reported by the check of the objective
        together.start_ahead(devices, _processes(len(devices), settings, needs))
        return devices
    return ()


def keep(started: Sequence[str], settings: TransformersSettings, needs: RunNeeds, capacity: Capacity | None) -> None:
    """Keep the processes after the checks, which found no problem, or start those of the devices that torch finds.

    Torch is imported only if there may be several devices.
    """
    if not _trains(settings, needs) or (settings.processes or (capacity.devices if capacity else 1)) < 2:
        return
    devices = parallel.device_names(settings)
    if len(devices) < 2:
        end(started)
    elif list(started) != devices:
        together.start_ahead(devices, _processes(len(devices), settings, needs))


def end(started: Sequence[str]) -> None:
    """End the processes that ``start`` has started."""
    if started:
        pool.end_all()


def _trains(settings: TransformersSettings, needs: RunNeeds) -> bool:
    """Return whether the run will train in kept processes, if there are several devices."""
    return bool(needs.download and needs.trainings) and settings.accelerate_config is None


def _expected_devices(settings: TransformersSettings, capacity: Capacity | None) -> Sequence[str]:
    """Return the devices that share the work, as ``parallel.device_names`` does; none if only torch can find them."""
    if capacity is None or ":" in settings.device:
        return ()
    if not capacity.is_gpu:
        return ["cpu"] * (settings.processes or 1)
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    visible = len(named.split(",")) if named else capacity.devices
    processes = settings.processes or visible
    return [f"cuda:{number}" for number in range(processes)] if processes <= visible else ()


def _processes(devices: int, settings: TransformersSettings, needs: RunNeeds) -> int:
    """Return the number of processes of the first training that several share; 1 if there is none."""
    sizes = [parallel.processes_among(devices, settings, objective.batch_size) for objective in needs.trainings]
    return next((size for size in sizes if size > 1), 1)
