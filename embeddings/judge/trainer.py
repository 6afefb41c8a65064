"""Training a judge: a short loop that can be killed at any moment and goes on to the same weights.

Whatever a step does is a function of its number: the rows (a permutation drawn for each epoch), the
learning rates (linear warm-up, half a cosine) and the dropout (seeded for each step). So a
checkpoint is the trained parameters, the optimizer's state and a number: tensors and JSON, no
pickle.

A GPU reads micro-batches one after the other. A CPU reads a step's sequences one by one, unpadded,
on one thread each and on all its cores at once, and adds their gradients in the order of the
sequences: the sum is the same to the bit on any number of cores. (With dropout it is one sequence
at a time, since all threads draw from one generator.)
"""

from __future__ import annotations

import gc
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cosine_similarity, kl_div, log_softmax

from arena.schema import SEED
from common.errors import Code, UserError
from common.files import read_json, write_json
from common.progress import Progress
from embeddings.cache.tensor_files import DamagedError, read_tensors, write_tensors
from embeddings.frozen.pair_reader import Inputs
from embeddings.inference import batches, out_of_memory, threads_of_one_core
from embeddings.judge.config import JudgeConfig
from embeddings.judge.dataset import JudgeDataset, Sample
from embeddings.judge.model import Judge
from embeddings.judge.optimizer import make_optimizer, moments_of, restore_moments

TRAINING_VERSION = 3

CLIP = 1.0
"""Largest norm of the gradient."""

MOST_SKIPPED = 5
"""Steps in a row whose gradient is not finite, after which a training has diverged."""

WEIGHTS, CHECKPOINT, RECORD = "weights.safetensors", "checkpoint.safetensors", "training.json"


def losses(
    logits: torch.Tensor, targets: torch.Tensor, teacher: torch.Tensor | None, training: JudgeConfig
) -> torch.Tensor:
    """Loss of each sample, float32 (n,).

    Without a teacher it is the cross-entropy. With one it is the weighted mean of cross-entropy,
    KL(teacher || judge) and 1 - cosine of the two probability vectors (the student's loss of the
    1st place of the LMSYS competition, with weights of 1).

    Args:
        logits: float32 (n, 3).
        targets: probabilities (n, 3).
        teacher: probabilities (n, 3).
        training: has the weights.
    """
    logs = log_softmax(logits, dim=1)
    ce = -(targets * logs).sum(dim=1)
    if teacher is None:
        return ce
    kl = kl_div(logs, teacher, reduction="none").sum(dim=1)
    cosine = 1 - cosine_similarity(logs.exp(), teacher, dim=1)
    total = training.ce * ce + training.kl * kl + training.cosine * cosine
    return total / (training.ce + training.kl + training.cosine)


def rate(step: int, steps: int, warmup: float) -> float:
    """Share of the peak learning rate in step ``step`` (from 0): linear rise, then half a cosine.

    The first step is above 0, and the step after the last would be 0.
    """
    rise = round(warmup * steps)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def steps_of(rows: int, training: JudgeConfig) -> int:
    """Optimizer steps of a training on so many battles."""
    return training.epochs * math.ceil(rows / training.batch)


def seconds_of(folder: Path) -> float:
    """Seconds that the judge of a folder was trained, in all calls together; 0 where none knows."""
    try:
        return float(read_json(folder / RECORD)["seconds"])
    except (OSError, ValueError, LookupError, TypeError):
        return 0.0


def rows_of(step: int, rows: int, training: JudgeConfig) -> np.ndarray:
    """Positions of the battles of a step; every epoch draws a new order."""
    epoch, place = divmod(step, math.ceil(rows / training.batch))
    order = np.random.default_rng([SEED, epoch]).permutation(rows)
    return order[place * training.batch : (place + 1) * training.batch]


class Trainer:
    """One training of one judge, with its checkpoints in one folder."""

    def __init__(
        self,
        judge: Judge,
        dataset: JudgeDataset,
        training: JudgeConfig,
        folder: Path,
        inputs: Inputs,
    ) -> None:
        """Go to train mode, and to the checkpoint where there is one.

        Raises:
            UserError: the judge computes in float16, which needs loss scaling.
        """
        if judge.dtype == torch.float16:
            raise UserError(
                Code.FLOAT16_UNTRAINABLE,
                "A judge that computes in float16 cannot be trained. Set dtype: bfloat16 (or "
                "float32) in the backbone's YAML.",
            )
        self.judge, self.dataset, self.training = judge.train(), dataset, training
        self.folder, self.inputs = folder, inputs
        self.steps = steps_of(len(dataset.targets), training)
        self.on_cpu = judge.where.type == "cpu"
        self.budget = 0 if self.on_cpu else training.batch_tokens
        self.parameters = list(judge.trained.values())
        self.optimizer = self._optimizer()
        self.map: Callable[..., Iterable[tuple[float, list[torch.Tensor]]]] = map
        self.step, self.seconds = 0, 0.0
        self.losses: list[float] = []
        self.skipped: set[str] = set()
        self.skipped_steps = self.skipped_in_a_row = 0
        if (folder / CHECKPOINT).exists():
            self._restore(folder / CHECKPOINT)

    def run(self, checkpoint_steps: int, label: str) -> None:
        """Train to the end; then write the weights and what there is to say about them.

        Args:
            checkpoint_steps: steps between checkpoints.
            label: of the progress bar.

        Raises:
            UserError: the loss or the gradient is not finite in several steps in a row, or memory
                does not suffice for one sequence.
        """
        last = time.monotonic()
        workers = 1 if self.training.dropout else torch.get_num_threads()
        with (
            Progress(label, self.steps - self.step, unit="steps") as progress,
            threads_of_one_core(workers) as pool,
        ):
            if self.on_cpu and self.step < self.steps:
                self.map = pool.map
                # bitsandbytes readies the weights in its first pass: no two threads at once.
                self._gradients(self.dataset.both_orders(np.arange(1))[:1])
            while self.step < self.steps:
                rows = rows_of(self.step, len(self.dataset.targets), self.training)
                self.losses.append(self._step(self.dataset.both_orders(rows)))
                self.step += 1
                progress.update()
                if self.step % checkpoint_steps == 0 and self.step < self.steps:
                    self.seconds += time.monotonic() - last
                    last = time.monotonic()
                    self._checkpoint(self.folder / CHECKPOINT)
                    print(
                        f"{label}: step {self.step:,} of {self.steps:,}, mean loss of the last "
                        f"{checkpoint_steps}: {_mean(self.losses[-checkpoint_steps:])}",
                        flush=True,
                    )
        self.seconds += time.monotonic() - last
        epoch = self.steps // max(1, self.training.epochs)
        write_json(
            self.folder / RECORD,
            {
                "steps": self.steps,
                "battles": len(self.dataset.targets),
                "tokens": self.dataset.pairs.tokens * self.training.epochs,
                "seconds": round(self.seconds, 1),
                "device": self.judge.where.type,
                "dtype": str(self.judge.dtype).removeprefix("torch."),
                "skipped_steps": self.skipped_steps,
                "mean_loss_of_epoch": [
                    _mean(self.losses[i : i + epoch]) for i in range(0, self.steps, max(1, epoch))
                ],
            },
        )
        self.judge.save(self.folder / WEIGHTS)
        (self.folder / CHECKPOINT).unlink(missing_ok=True)

    def _optimizer(self) -> torch.optim.Optimizer:
        return make_optimizer(self.judge.trained, self.training, on_cpu=self.on_cpu)

    def _step(self, samples: list[Sample]) -> float:
        """One optimizer step; returns its mean loss, NaN where the step was skipped.

        A gradient that is not finite moves nothing: the step is skipped, said and counted.
        """
        loss = self._gradients(samples)
        while loss is None:
            longest = len(samples[0].sequence.ids)
            if self.budget <= longest:
                raise UserError(
                    Code.OUT_OF_MEMORY,
                    f"Memory does not suffice for one sequence of {longest:,} tokens. Lower "
                    "--max-tokens or --top-layers, or add --gradient-checkpointing or "
                    "--quantization nf4.",
                )
            self.budget //= 2
            print(f"out of GPU memory: going on with --batch-tokens {self.budget}", flush=True)
            gc.collect()
            torch.cuda.empty_cache()
            loss = self._gradients(samples)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, CLIP)
        if not (math.isfinite(loss) and math.isfinite(float(norm))):
            self._skip(loss, float(norm))
            return math.nan
        self.skipped_in_a_row = 0
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * rate(self.step, self.steps, self.training.warmup)
        self.optimizer.step()
        return loss

    def _skip(self, loss: float, norm: float) -> None:
        """Count a step that moves nothing.

        Raises:
            UserError: it is one of several in a row.
        """
        self.skipped_steps += 1
        self.skipped_in_a_row += 1
        what = f"at step {self.step + 1} the loss is {loss}, its gradient's norm {norm}"
        if self.skipped_in_a_row == min(MOST_SKIPPED, self.steps):
            raise UserError(
                Code.TRAINING_DIVERGED,
                f"The last {self.skipped_in_a_row} steps had no finite gradient: {what}. "
                f"Lower --lr (now {self.training.lr}) and --head-lr (now {self.training.head_lr}), "
                "or raise --warmup.",
            )
        print(f"{what}: the step is skipped", file=sys.stderr)

    def _gradients(self, samples: list[Sample]) -> float | None:
        """Accumulate the step's gradients micro-batch by micro-batch; ``None``: out of memory."""
        self.optimizer.zero_grad()
        torch.manual_seed(SEED + self.step)
        parts = [samples[s] for s in batches([len(s.sequence.ids) for s in samples], self.budget)]
        total, read = 0.0, False
        try:
            for loss, gradients in self._finite(parts):
                read = True
                total += loss / len(samples)
                for parameter, gradient in zip(self.parameters, gradients, strict=True):
                    gradient /= len(samples)
                    if parameter.grad is None:
                        parameter.grad = gradient
                    else:
                        parameter.grad += gradient
                # The loop would hold them through the next pass.
                gradients.clear()
                del gradient
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            return None
        return total if read else math.nan

    def _finite(self, parts: Sequence[list[Sample]]) -> Iterator[tuple[float, list[torch.Tensor]]]:
        """What ``_part`` gives, without samples whose loss is not finite: each is named once."""
        for part, (loss, gradients) in zip(parts, self.map(self._part, parts), strict=True):
            if math.isfinite(loss):
                yield loss, gradients
            elif len(part) > 1:
                yield from self._finite([[sample] for sample in part])
            elif part[0].id not in self.skipped:
                self.skipped.add(part[0].id)
                print(f"no finite loss, left out of training: id {part[0].id!a}", file=sys.stderr)

    def _part(self, samples: list[Sample]) -> tuple[float, list[torch.Tensor]]:
        """Summed loss of a micro-batch, and its gradients."""
        loss = self._loss(samples).sum()
        return float(loss.detach()), list(torch.autograd.grad(loss, self.parameters))

    def _loss(self, samples: list[Sample]) -> torch.Tensor:
        logits = self.judge([s.sequence for s in samples], self.inputs)
        targets = torch.from_numpy(np.stack([s.target for s in samples])).to(logits.device)
        teachers = [s.teacher for s in samples if s.teacher is not None]
        teacher = torch.from_numpy(np.stack(teachers)).to(logits.device) if teachers else None
        return losses(logits, targets, teacher, self.training)

    def _checkpoint(self, path: Path) -> None:
        tensors: dict[str, torch.Tensor] = {
            "losses": torch.tensor(self.losses, dtype=torch.float64)
        }
        tensors |= {f"weights/{n}": w.detach() for n, w in self.judge.weights.items()}
        moments, numbers = moments_of(self.optimizer, self.judge.trained)
        tensors |= moments
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "numbers": numbers,
            "skipped": [self.skipped_steps, self.skipped_in_a_row],
        }
        # Tensors that share memory (bitsandbytes' maps) cannot be written as they are.
        tensors = {n: t.cpu().clone().contiguous() for n, t in tensors.items()}
        write_tensors(path, tensors, state)

    def _restore(self, path: Path) -> None:
        try:
            tensors, state = read_tensors(path)
        except DamagedError as error:
            print(f"{path} is damaged ({error}): removed, training begins anew", file=sys.stderr)
            path.unlink()
            return
        self.step, self.seconds = state["step"], state["seconds"]
        # Older checkpoints skipped none.
        self.skipped_steps, self.skipped_in_a_row = state.get("skipped", [0, 0])
        self.losses = tensors.pop("losses").tolist()
        with torch.no_grad():
            for name, weight in self.judge.weights.items():
                weight.copy_(tensors[f"weights/{name}"])
        print(f"going on after step {self.step:,} of {self.steps:,}", flush=True)
        if not restore_moments(self.optimizer, self.judge.trained, tensors, state["numbers"]):
            print(
                f"{path} was written on another kind of device: weights and step are kept, the "
                "optimizer's moments begin anew",
                file=sys.stderr,
            )


def _mean(losses: Sequence[float]) -> float | None:
    """Mean loss of the steps that were not skipped, to four places; ``None`` without any."""
    finite = [loss for loss in losses if math.isfinite(loss)]
    return round(float(np.mean(finite)), 4) if finite else None
