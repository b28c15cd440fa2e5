"""The process group of a kept worker process. It is formed once and stays for the trainings that follow.

Forming it takes seconds with NCCL. The first processes of the pool are its members, in the order of their ranks.
"""

from __future__ import annotations

from datetime import timedelta

_TIMEOUT = timedelta(seconds=1800)
"""Time that a process waits for the others in one operation; the default of transformers."""


def join(rank: int, processes: int, device: str, store: str) -> None:
    """Form a group with the other processes whose rank is below ``processes``, and wait for them.

    A process that is in a group of that size stays there. A group of another size is left: all processes of the pool
    have to call this function, so that its members leave it together. ``device`` is that of this process, such as
    cpu or cuda:0. The file ``store`` is how the processes find each other. It must be a new one in each call, and must
    exist as long as the processes.
    """
    import torch
    from torch import distributed

    if distributed.is_initialized():
        if distributed.get_world_size() == processes:
            return
        distributed.destroy_process_group()
    if processes == 1 or rank >= processes:
        return
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(device)  # the caller may be another thread than the one that set it
    distributed.init_process_group(
        "nccl" if on_gpu else "gloo",
        init_method=f"file://{store}",
        rank=rank,
        world_size=processes,
        timeout=_TIMEOUT,
        device_id=torch.device(device) if on_gpu else None,
    )
