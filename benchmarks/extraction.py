"""How near the CPU's limit extraction comes, beside what else reads hidden states of a model.

    python benchmarks/extraction.py                        about 10 minutes
    python benchmarks/extraction.py --texts votes.csv      battles of your own
    python benchmarks/extraction.py --quick --cpu-time     a look, on a machine that is busy

Without --texts the sample's answers are joined and cut to lengths as LMSYS has them: log-normal,
1,000 characters in the middle and 1,380 in the mean. Lengths are as they come, nothing is padded
for us. The rivals take turns, and every figure is a median over the rounds. Tokens a second count
the conversations' tokens, the same for all. The share is of the matrix products' speed in the
same rounds, on the model's own shapes, in bfloat16, one product on each core; it counts what each
needs to compute for the tokens it reads (weights, causal attention, the head for likelihoods), and
no padding. A rival that is not installed is named and left out.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

if __name__ == "__main__":
    import _script  # noqa: F401

import numpy as np
import pandas as pd
import torch

from arena import sample
from arena.battle_rows import ReadOptions
from arena.reader import read_battles
from benchmarks import extraction_rivals as rivals
from embeddings.backbone.config import load_config
from embeddings.backbone.load import load_backbone
from embeddings.backbone.runtime import OPENVINO, select_engine
from embeddings.frozen.scoring import Scorer
from embeddings.inference import BatchBudget, read_shards
from embeddings.prompts.answers import PackedAnswer, PackedBattles, pack_battles
from pipelines import cli

BATTLES = 400
MIDDLE, SPREAD = 1000, 0.8
"""Characters of an answer: median, and standard deviation of the logarithm."""


def lengthened(battles: pd.DataFrame) -> pd.DataFrame:
    """Battles whose answers are the others' joined and cut to log-normal lengths."""
    rng = np.random.default_rng(0)
    battles = battles.copy()
    for column in ("response_a", "response_b"):
        texts = ["\n\n".join(turns) for turns in battles[column]]
        whole = "\n\n".join(texts) * 2
        starts = np.cumsum([0, *(len(text) + 2 for text in texts[:-1])])
        lengths = np.exp(np.log(MIDDLE) + SPREAD * rng.standard_normal(len(texts))).astype(int)
        battles[column] = [
            [whole[start : start + length]] for start, length in zip(starts, lengths, strict=True)
        ]
    return battles


@dataclass
class Entry:
    """One way to read the answers."""

    name: str
    run: Callable[[], None]
    operations: float
    """Floating-point operations that it needs."""


def chosen(packed: PackedBattles, n: int) -> list[PackedAnswer]:
    """``n`` answers at even steps of the lengths, longest first."""
    steps = np.linspace(0, len(packed.answers) - 1, min(n, len(packed.answers))).round().astype(int)
    return [packed.answers[i] for i in steps]


class Work:
    """What reading costs, in floating-point operations."""

    def __init__(self, model: torch.nn.Module) -> None:
        config = model.config
        layers = model.get_decoder().layers
        self.linear = [m.weight for m in layers[0].modules() if isinstance(m, torch.nn.Linear)]
        self.layers = len(layers)
        heads = config.num_attention_heads
        self.wide = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
        self.head = model.lm_head.weight.numel()

    def read(self, length: int, before: int = 0) -> float:
        """The decoder over ``length`` tokens that stand behind ``before`` others."""
        pairs = length * before + length * (length + 1) / 2
        weights = sum(w.numel() for w in self.linear)
        return self.layers * (2.0 * length * weights + 4.0 * self.wide * pairs)

    def likelihoods(self, item: PackedAnswer, opening: int) -> float:
        """The head, and the answer's beginning without the prompt."""
        rows = len(item.content) + 1 + item.unconditional_length
        bare = (
            self.read(len(item.unconditional) - opening, opening)
            if len(item.unconditional)
            else 0.0
        )
        return 2.0 * self.head * rows + bare

    def ceiling(self, tokens: int, threads: int) -> Entry:
        """The products of one layer's weights with ``tokens`` rows, on every core at once."""
        pairs = [(torch.randn(tokens, w.shape[1]).to(w.dtype), w) for w in self.linear]
        times = 60

        def products(_: int) -> None:
            with torch.inference_mode():
                for _ in range(times):
                    for x, w in pairs:
                        torch.nn.functional.linear(x, w)

        pool = ThreadPoolExecutor(threads, initializer=partial(torch.set_num_threads, 1))
        operations = sum(2.0 * tokens * w.numel() for w in self.linear) * times * threads
        return Entry(
            "matrix products", lambda: list(pool.map(products, range(threads))), operations
        )


def ours(scorer: Scorer, items: Sequence[PackedAnswer], work: Work) -> list[Entry]:
    """Our reading by one engine: states with likelihoods as extract.py does, and states alone."""
    opening = len(scorer.shared_prefix)

    def states(batch: Sequence[PackedAnswer]) -> list[object]:
        with torch.inference_mode():
            return [scorer.engine.states([item.ids]) for item in batch]

    def score(batch: Sequence[PackedAnswer]) -> list[object]:
        return list(zip(*scorer.score(batch), strict=True))

    def run(read: Callable[[Sequence[PackedAnswer]], list[object]]) -> None:
        for _ in read_shards(items, read, BatchBudget(0)):
            pass

    alone = sum(work.read(len(item.ids) - opening, opening) for item in items)
    more = sum(work.likelihoods(item, opening) for item in items)
    name = "OpenVINO" if type(scorer.engine).__name__.startswith("OpenVino") else "torch"
    return [
        Entry(f"ours, {name}, with likelihoods", lambda: run(score), alone + more),
        Entry(f"ours, {name}, states alone", lambda: run(states), alone),
    ]


def main(arguments: argparse.Namespace) -> None:
    """Build every entry, let them take turns, print the table."""
    # Of the rivals' own age, and of tracing.
    warnings.simplefilter("ignore")
    rounds, n = (2, 8) if arguments.quick else (arguments.rounds, arguments.answers)
    config = load_config(arguments.backbone)
    backbone = load_backbone(config, device="cpu")
    threads = torch.get_num_threads()
    table = read_battles(
        arguments.texts or str(sample.TEST), labelled=False, options=ReadOptions(limit=BATTLES)
    )
    battles = table[table["reason"] == ""].reset_index(drop=True)
    if not arguments.texts:
        battles = lengthened(battles)
    packed = pack_battles(battles, config, backbone.tokenizer, "")
    items = chosen(packed, n)
    lengths = [len(item.ids) for item in items]
    tokens = sum(lengths)
    shown = ", ".join(f"{np.percentile(lengths, p):.0f}" for p in (0, 25, 50, 75, 100))
    print(f"{len(items)} answers, {tokens:,} tokens; lengths at the quartiles {shown}")
    work = Work(backbone.model)
    ceiling = work.ceiling(int(np.median(lengths)), threads)
    entries = ours(Scorer(backbone, packed.end_token, packed.shared_prefix), items, work)
    engine, note = select_engine("auto", config)
    if engine == OPENVINO:
        scorer = Scorer(backbone, packed.end_token, packed.shared_prefix, OPENVINO)
        entries = ours(scorer, items, work) + entries
    else:
        print(f"left out: ours in OpenVINO: {note}")
    needed = sum(map(work.read, lengths))
    # In the order of the file, as rivals get them.
    order = np.random.default_rng(0).permutation(len(items))
    sequences = [items[i].ids for i in order]
    servers = []
    for name, make in rivals.ALL.items():
        if arguments.only and name not in arguments.only:
            continue
        try:
            rival = make(backbone, sequences)
        except rivals.MissingError as reason:
            print(f"left out: {name}: {reason}")
            continue
        servers += [rival.process] if rival.process else []
        entries.append(Entry(name, rival.run, needed))

    def clock() -> float:
        if not arguments.cpu_time:
            return time.perf_counter()
        return (time.process_time() + sum(map(rivals.cpu_seconds, servers))) / threads

    try:
        seconds = measure([ceiling, *entries], rounds, clock)
    finally:
        for process in servers:
            process.terminate()
            process.wait(10)
    report(ceiling, entries, seconds, tokens, threads)


def measure(
    entries: Sequence[Entry], rounds: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds of every entry in every round, after one round that does not count."""
    seconds: dict[str, list[float]] = {entry.name: [] for entry in entries}
    for number in range(rounds + 1):
        for entry in entries:
            start = clock()
            entry.run()
            if number:
                seconds[entry.name].append(clock() - start)
        print(f"round {number} of {rounds}, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
    return seconds


def report(
    ceiling: Entry,
    entries: Sequence[Entry],
    seconds: dict[str, list[float]],
    tokens: int,
    threads: int,
) -> None:
    """Print the table."""
    median = {name: float(np.median(x)) for name, x in seconds.items()}
    speed = ceiling.operations / median[ceiling.name]
    print(f"matrix products on {threads} cores: {speed / 1e9:,.0f} GFLOP/s")
    best = min(median[entry.name] for entry in entries if entry.name.startswith("ours"))
    print(f"{'':36} {'tokens/s':>9} {'[least, most]':>16} {'of products':>12} {'ours is':>9}")
    for entry in entries:
        taken = seconds[entry.name]
        span = f"[{tokens / max(taken):,.0f}, {tokens / min(taken):,.0f}]"
        share = entry.operations / median[entry.name] / speed
        print(
            f"{entry.name:36} {tokens / median[entry.name]:>9,.0f} {span:>16} {share:>12.0%} "
            f"{median[entry.name] / best:>8.2f}x"
        )


def command(argv: list[str] | None = None) -> int:
    """Parse ``argv``, run, return the exit code."""
    p = cli.parser(__doc__)
    p.add_argument("--texts", metavar="FILE", help="battles to read")
    p.add_argument("--backbone", default="smollm2-135m", metavar="B", help="as in extract.py")
    p.add_argument("--answers", type=cli.positive, default=24, metavar="N", help="answers to read")
    p.add_argument("--rounds", type=cli.positive, default=5, metavar="N", help="that count")
    p.add_argument("--only", type=cli.names, metavar="NAMES", help="of the rivals, by commas")
    p.add_argument("--quick", action="store_true", help="8 answers, 2 rounds")
    p.add_argument(
        "--cpu-time", action="store_true", help="processors' time over cores instead of the wall's"
    )
    return cli.run(main, p.parse_args(argv))


if __name__ == "__main__":
    sys.exit(command())
