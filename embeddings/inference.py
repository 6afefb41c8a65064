"""Reading many sequences with a model: batches of a token budget, all cores of a CPU, by shard."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TypeVar

import torch

from common.errors import Code, UserError
from common.progress import Progress
from embeddings.cache.memory import MemoryStore, Store
from embeddings.cache.shards import SHARD_ITEMS, ragged
from embeddings.prompts import pairs

Item = TypeVar("Item")
Found = TypeVar("Found")


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


def in_shards(
    items: Sequence[Item],
    read: Callable[[Sequence[Item]], Found],
    *,
    size: int,
    length: Callable[[Item], int],
    budget: int,
    progress: Callable[[Sequence[Item]], None],
    limit: str = "max_tokens in the backbone's YAML",
    lowered: Callable[[int], None] = lambda _: None,
) -> Iterator[tuple[Sequence[Item], list[Found]]]:
    """Read ``size`` items after the other in their order, and yield them with what was found.

    A GPU reads batches. A CPU reads sequences one by one, unpadded, on one thread each and on all
    its cores at once: twice as fast as one sequence on two threads, many times where other
    processes run, and the numbers depend on neither mates nor cores.

    Args:
        items: what is to be read.
        read: one batch with the model; called from several threads on a CPU.
        size: items of a shard.
        length: tokens of an item.
        budget: tokens of a batch on a GPU, 0 on a CPU.
        progress: called with each batch that is done.
        limit: what makes sequences shorter, for people.
        lowered: told the budget that goes on from there.

    A GPU that runs out of memory gets half the budget from there on.

    Raises:
        UserError: memory does not suffice for one sequence.

    Yields:
        The items of a shard, and what ``read`` returned of each batch of them.
    """
    with threads_of_one_core(1 if budget else torch.get_num_threads()) as pool:
        for begin in range(0, len(items), size):
            part = items[begin : begin + size]
            found: list[Found] = []
            done = 0
            while done < len(part):
                lengths = [length(item) for item in part[done:]]
                grouped = [part[done:][s] for s in batches(lengths, budget)]
                short = False
                try:
                    for batch, answer in zip(grouped, pool.map(read, grouped), strict=True):
                        found.append(answer)
                        done += len(batch)
                        progress(batch)
                except torch.OutOfMemoryError:
                    short = True
                if short:
                    # The error is gone, and what its frames held.
                    budget = _less(budget, max(lengths), limit)
                    lowered(budget)
            yield part, found


def _less(budget: int, longest: int, limit: str) -> int:
    """Half the budget, after memory did not suffice for a batch.

    Raises:
        UserError: it did not suffice for one sequence.
    """
    if budget <= longest:
        raise UserError(
            Code.OUT_OF_MEMORY,
            f"Memory does not suffice for one sequence of {longest:,} tokens. Lower {limit}, or "
            "take --quantization nf4.",
        )
    print(f"out of GPU memory: going on with batches of {budget // 2:,} tokens", file=sys.stderr)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return budget // 2


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


def fill(
    store: Store,
    todo: Sequence[pairs.PackedPair],
    read: Callable[[Sequence[pairs.PackedPair]], Sequence[torch.Tensor]],
    what: str,
    budget: int,
    arrays: Callable[[Sequence[torch.Tensor]], Mapping[str, torch.Tensor]] = ragged,
) -> None:
    """Read sequences with a model and add what it finds, shard by shard in their order.

    Args:
        store: where to.
        todo: sequences that are not there yet.
        read: one batch, an item for each of its sequences.
        what: for people.
        budget: tokens of a batch on a GPU, 0 on a CPU.
        arrays: of a shard's items; by default these are (rows, width) of different lengths.
    """
    # bitsandbytes rearranges the weights in its first pass: no two threads may do that at once.
    read(todo[-1:])
    tokens = sum(len(s.ids) for s in todo)
    quiet = isinstance(store, MemoryStore) and len(todo) <= SHARD_ITEMS
    with nullcontext() if quiet else Progress(what, tokens, unit="tokens") as progress:
        for part, found in in_shards(
            todo,
            read,
            size=SHARD_ITEMS,
            length=lambda s: len(s.ids),
            budget=budget,
            progress=lambda batch: (
                progress.update(sum(len(s.ids) for s in batch)) if progress else None
            ),
            limit="--max-tokens (and --predict-tokens of finetune.py)",
        ):
            store.add([s.key for s in part], arrays([item for items in found for item in items]))
