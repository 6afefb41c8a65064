"""From tokens to numbers: batches of a token budget, all cores of a CPU, kept shard by shard.

Answers, pairs of answers, the lower layers' output and zero-shot verdicts are all read this way:
sequences go in, a function reads one batch of them, and a store keeps the numbers by content.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import torch

from common.errors import Code, UserError
from common.progress import Progress
from embeddings.cache.memory import MemoryStore, Store
from embeddings.cache.shards import SHARD_ITEMS


class TokenSequence(Protocol):
    """What a model reads in one go: ``PackedAnswer`` or ``PackedPair``."""

    @property
    def key(self) -> bytes:
        """Content address, 32 bytes."""

    @property
    def length(self) -> int:
        """Tokens of the longest pass that it takes: what a batch is padded to."""

    @property
    def tokens(self) -> int:
        """Tokens that the model reads for it, in all passes."""


Item = TypeVar("Item", bound=TokenSequence)
Numbers = TypeVar("Numbers")
"""What a model gives for one sequence."""


FIRST_SHARDS = 4
"""Shards of a call after which a model is trusted: they have its longest sequences."""

MOST_LOST, TOO_FEW = 0.01, 8
"""Largest share of them that may have no finite numbers, and how many never say anything."""

MEMORY_MESSAGES = (
    *("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "CUDA out of memory"),
    "cublasLt ran into an error",
)
"""What cuBLAS, cuDNN and bitsandbytes' LLM.int8 say where the GPU's memory does not suffice."""


def out_of_memory(error: RuntimeError) -> bool:
    """Whether a GPU's memory did not suffice, as PyTorch or one of its libraries says."""
    return isinstance(error, torch.OutOfMemoryError) or any(
        message in str(error) for message in MEMORY_MESSAGES
    )


def first_line(error: RuntimeError) -> str:
    """The first line of what an error says, without the advice that follows it."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0]


@dataclass
class BatchBudget:
    """How many tokens a batch may have; what memory did not suffice for stays out of reach.

    Attributes:
        tokens: of a batch on a GPU, padding included; 0 on a CPU, where each sequence is a batch.
        shorten: what makes sequences shorter, for people.
    """

    tokens: int
    shorten: str = "--max-tokens (and --predict-tokens of finetune.py)"

    def halve(self, longest: int, reason: str) -> None:
        """Allow half as many tokens from now on, and say so.

        Args:
            longest: tokens of the longest sequence that is still to be read.
            reason: what the GPU said.

        Raises:
            UserError: memory did not suffice for one sequence.
        """
        if self.tokens <= longest:
            raise UserError(
                Code.OUT_OF_MEMORY,
                f"out of memory with a single sequence of {longest:,} tokens ({reason}): lower "
                f"{self.shorten}, or take --quantization nf4",
            )
        self.tokens //= 2
        print(
            f"out of GPU memory ({reason}): going on with batches of {self.tokens:,} tokens",
            file=sys.stderr,
        )
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def batches(lengths: Sequence[int], budget: int) -> Iterator[slice]:
    """Cut a row of sequences into batches of at most ``budget`` tokens with padding.

    A sequence that alone exceeds the budget is a batch.

    Args:
        lengths: tokens of each sequence.
        budget: most tokens; 0 makes every sequence a batch.
    """
    begin, longest = 0, 0
    for end, length in enumerate(lengths):
        longest = max(longest, length)
        if end > begin and longest * (end + 1 - begin) > budget:
            yield slice(begin, end)
            begin, longest = end, length
    if begin < len(lengths):
        yield slice(begin, len(lengths))


def shards_of(sequences: Sequence[Item]) -> list[Sequence[Item]]:
    """Cut sequences into the shards that a store will have of them."""
    return [sequences[i : i + SHARD_ITEMS] for i in range(0, len(sequences), SHARD_ITEMS)]


def read_into_store(
    store: Store,
    sequences: Sequence[Item],
    read: Callable[[Sequence[Item]], Sequence[Numbers]],
    label: str,
    budget: BatchBudget,
    arrays: Callable[[Sequence[Numbers]], Mapping[str, torch.Tensor]],
) -> None:
    """Read sequences with a model and store their numbers, shard by shard in their order.

    Shows its progress, but for a few sequences that a store in memory takes.

    Args:
        store: where to.
        sequences: those that the store lacks, longest first.
        read: gives a batch's numbers, one entry a sequence; called from several threads on a CPU.
        label: of the progress bar.
        budget: of a batch; lowered where a GPU's memory does not suffice.
        arrays: makes a shard's arrays of its sequences' numbers, such as ``ragged`` of tensors
            (rows, width) of different lengths.

    Raises:
        UserError: memory does not suffice for one sequence, or too many of the first numbers are
            not finite; these are not stored.
    """
    tokens, check = sum(s.tokens for s in sequences), FiniteCheck()
    quiet = isinstance(store, MemoryStore) and len(sequences) <= SHARD_ITEMS
    with Progress(label, tokens, unit="tokens", disable=quiet) as progress:
        for shard, numbers in read_shards(
            sequences, read, budget, lambda batch: progress.update(sum(s.tokens for s in batch))
        ):
            made = arrays(numbers)
            check.add(made)
            store.add([s.key for s in shard], made)


class FiniteCheck:
    """Stops a reading whose first numbers are not finite, before they are stored for good.

    Some sequences of any model may be lost: they are named at the end.
    """

    def __init__(self) -> None:
        """No shard was read yet."""
        self._shards = self._items = self._lost = 0

    def add(self, arrays: Mapping[str, torch.Tensor]) -> None:
        """Look at one of the first shards.

        Args:
            arrays: of the shard: ``ragged``, or ``states`` with a row for each sequence; where
                there is ``likelihood``, all of it is NaN of a lost answer, whose states may be
                bytes.

        Raises:
            UserError: too many of the first shards' sequences have numbers that are not finite.
        """
        if self._shards == FIRST_SHARDS:
            return
        if "ends" in arrays:
            items = torch.tensor_split(arrays["values"], arrays["ends"][:-1])
            lost = [not bool(item.isfinite().all()) for item in items]
        elif "likelihood" in arrays:
            lost = arrays["likelihood"].isnan().all(dim=1).tolist()
        else:
            lost = (~arrays["states"].isfinite()).flatten(1).any(dim=1).tolist()
        self._shards += 1
        self._items += len(lost)
        self._lost += sum(lost)
        if self._lost > max(TOO_FEW, MOST_LOST * self._items):
            raise UserError(
                Code.NUMBERS_NOT_FINITE,
                f"The model's numbers are not finite for {self._lost:,} of the first "
                f"{self._items:,} sequences. float16, and int8 in any dtype, hold none above "
                "65,504: take --dtype bfloat16 or float32 and --quantization nf4 or none, or "
                "another backbone.",
            )


def read_shards(
    sequences: Sequence[Item],
    read: Callable[[Sequence[Item]], Sequence[Numbers]],
    budget: BatchBudget,
    progress: Callable[[Sequence[Item]], Any] = lambda _: None,
) -> Iterator[tuple[Sequence[Item], list[Numbers]]]:
    """Read sequences with a model; the arguments are those of ``read_into_store``.

    A GPU reads batches. A CPU reads sequences one by one, unpadded, on one thread each and on all
    its cores at once: twice as fast as one sequence on two threads, many times where other
    processes run, and the numbers depend on neither batch mates nor cores.

    Args:
        sequences: longest first.
        read: gives a batch's numbers.
        budget: of a batch.
        progress: called with each batch that is done.

    Yields:
        The sequences of a shard, and the numbers of each.

    Raises:
        UserError: memory does not suffice for one sequence.
    """
    with threads_of_one_core(1 if budget.tokens else torch.get_num_threads()) as pool:
        for shard in shards_of(sequences):
            numbers: list[Numbers] = []
            while len(numbers) < len(shard):
                left = shard[len(numbers) :]
                lengths = [s.length for s in left]
                parts = [left[part] for part in batches(lengths, budget.tokens)]
                trouble = ""
                try:
                    for batch, batch_numbers in zip(parts, pool.map(read, parts), strict=True):
                        numbers += batch_numbers
                        progress(batch)
                except RuntimeError as error:
                    if not out_of_memory(error):
                        raise
                    trouble = first_line(error)
                if trouble:
                    # Not in the handler: there the error's frames still hold the failed pass.
                    budget.halve(max(lengths), trouble)
            yield shard, numbers


@contextmanager
def one_core() -> Iterator[None]:
    """Compute on one core for the time of the context: how many there are changes last bits."""
    cores = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(cores)


@contextmanager
def threads_of_one_core(workers: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads that compute on one core each, and on no more than that one."""
    with (
        one_core(),
        ThreadPoolExecutor(workers, initializer=partial(torch.set_num_threads, 1)) as pool,
    ):
        yield pool
