"""Judges of several folds at a time, one a device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from common.device_workers import Count, DeviceWorkers
from embeddings.backbone.config import BackboneConfig
from embeddings.judge.config import JudgeConfig
from embeddings.judge.cross_fit import Judges
from embeddings.judge.dataset import JudgeDataset
from embeddings.judge.trainer import WEIGHTS
from embeddings.replicas import check_own_card

Job = tuple[JudgeDataset, str]
"""The battles of a judge, and the label of its progress bar."""


def train_on_devices(
    judges: Judges, dataset: JudgeDataset, val_masks: Sequence[np.ndarray]
) -> None:
    """Train the judges of all folds that are missing, as many at a time as there are devices.

    Without devices of their own, or for a single judge, nothing is done here: ``crossfit`` trains
    what is missing, to the same weights.

    Args:
        judges: of one backbone and training configuration, after ``Judges.prepare``.
        dataset: the training battles, n, packed for training.
        val_masks: what each judge leaves out, bool (n,) each.

    Raises:
        UserError: training failed.
    """
    devices = judges.frozen.devices
    if len(devices) < 2 or judges.training.epochs == 0:
        return
    jobs = []
    for k, val_mask in enumerate(val_masks):
        rest = dataset.take(np.flatnonzero(~val_mask))
        if not (judges.address(rest) / WEIGHTS).exists():
            jobs.append((rest, f"judge {k + 1} of {len(val_masks)}"))
    if len(jobs) < 2:
        return
    load = partial(_trainer, judges.config, judges.training, judges.folder, judges.checkpoint_steps)
    cores = torch.get_num_threads() // len(devices)
    print(f"{len(jobs)} judges are trained, one at a time on {', '.join(devices)}", flush=True)
    workers: DeviceWorkers[Job, str]
    with DeviceWorkers(load, devices, cores) as workers:
        for (_, label), folder in workers.results(jobs):
            print(f"{label}: trained, in {judges.folder / folder}", flush=True)


def _trainer(
    config: BackboneConfig, training: JudgeConfig, folder: Path, checkpoint_steps: int
) -> Callable[[Job, Count], str]:
    """What trains judges in a worker process; it gives the names of their folders.

    Raises:
        UserError: its card cannot be used there.
    """
    check_own_card()
    judges = Judges(config, training, folder, checkpoint_steps)

    def train(job: Job, _: Count) -> str:
        return judges.train(*job).name

    return train
