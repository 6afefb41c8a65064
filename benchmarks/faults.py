"""Inject every fault into every command of a tiny run, and print what it cost.

    python benchmarks/faults.py
    python benchmarks/faults.py --times 5 --only killed --only full

Prints one line a fault: how often it was injected, rows lost, whether the output came out equal to
the undisturbed run's, byte by byte, once the same command was given again. Faults are real: a full
file system, signals, damaged files, another process, a changed clock, no network, permissions. But
for one: there is no GPU here whose memory could run out, a model says so instead.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

if __name__ == "__main__":
    import _script  # noqa: F401

from benchmarks import fault_worlds as worlds
from benchmarks.fault_bench import COMMANDS, Bench, Started

CHANGING = ("extract", "finetune", "train_meta")
"""Commands that leave more than one file in the run."""


@dataclass
class Outcome:
    """What came of one fault."""

    injected: int = 0
    rows_lost: int = 0
    unequal: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def compare(self, bench: Bench, name: str, run: Path) -> None:
        """Count what is missing, and what is not as in the undisturbed run; remove the run."""
        self.rows_lost += bench.rows_lost(run)
        self.unequal += [f"{name}: {path}" for path in bench.different(name, run)]
        shutil.rmtree(run)

    def expect(self, holds: bool, started: Started, what: str) -> None:
        """Keep a complaint where something is not as it should be."""
        if not holds:
            self.complaints.append(f"{what}: {started.output[-600:]}")


def one_line(started: Started) -> bool:
    """Whether a command that failed said why in one line, without a traceback."""
    errors = [line for line in started.output.splitlines() if line.startswith("[TB")]
    return len(errors) == 1 and "Traceback" not in started.output


def killed(bench: Bench, rng: random.Random, out: Outcome) -> None:
    """End by kill -9 at a random moment, each command."""
    for name in COMMANDS:
        run = bench.copy(name)
        started = bench.start(name, run)
        time.sleep(rng.uniform(0, bench.seconds[name]))
        started.send(signal.SIGKILL)
        out.injected += started.wait() == -signal.SIGKILL
        bench.again(name, run)
        out.compare(bench, name, run)


def interrupted(bench: Bench, rng: random.Random, out: Outcome) -> None:
    """Ctrl-C at a random moment, each command: exit code 130, no traceback."""
    for name in COMMANDS:
        run = bench.copy(name)
        started = bench.start(name, run, worlds.ready)
        while "ready" not in started.output:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.7 * bench.seconds[name]))
        started.send(signal.SIGINT)
        code = started.wait()
        out.injected += code == 130
        fine = code == 0 or (code == 130 and "stopped; the same" in started.output)
        out.expect(fine and "Traceback" not in started.output, started, f"{name} ended with {code}")
        bench.again(name, run)
        out.compare(bench, name, run)


def full(bench: Bench, rng: random.Random, out: Outcome) -> None:
    """A disk that is full in the middle, each command: one line, exit code 2."""
    for name in COMMANDS:
        run = bench.copy(name)
        before = sum(p.stat().st_size for p in run.rglob("*") if p.is_file())
        needed = sum(map(len, bench.wrote[name].values())) - before
        space = before + int(rng.uniform(0.1, 0.9) * max(needed, 4096))
        first, second = worlds.on_a_small_disk(bench, name, run, space)
        code = first.wait()
        out.injected += code == 2
        out.expect(code == 0 or (code == 2 and one_line(first)), first, f"{name} ended with {code}")
        out.expect(second.wait() == 0, second, f"{name} after room was made")
        out.compare(bench, name, run)


def damaged(bench: Bench, rng: random.Random, out: Outcome, cut: bool) -> None:
    """Damage one file after the other that a command wrote; give the command again."""
    for name, pattern in worlds.DAMAGED:
        later = dict(zip(COMMANDS, [*COMMANDS[1:], None], strict=True))[name]
        run = bench.copy(later) if later else bench.copy(name)
        path = rng.choice(sorted(run.glob(pattern)))
        content = bytearray(path.read_bytes())
        if cut:
            content = content[: rng.randrange(len(content))]
        else:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
        out.injected += 1
        started = bench.again(name, run)
        if "safetensors" in pattern:
            out.expect("is damaged" in started.output, started, f"{name} did not name {path.name}")
        out.compare(bench, name, run)


def flipped(bench: Bench, rng: random.Random, out: Outcome) -> None:
    """A flipped bit in a shard, a judge's weights, a view or a table."""
    damaged(bench, rng, out, cut=False)


def short(bench: Bench, rng: random.Random, out: Outcome) -> None:
    """The same files cut short."""
    damaged(bench, rng, out, cut=True)


def together(bench: Bench, rng: random.Random, out: Outcome) -> None:
    """A second command on a run that another one changes: it leaves with one line."""
    for first in CHANGING:
        second = rng.choice([n for n in COMMANDS[:3] if first != "finetune" or n != "evaluate"])
        run = bench.copy(first)
        started = bench.start(first, run)
        while started.process.is_alive() and not worlds.is_locked(run, first):
            time.sleep(0.005)
        other = bench.start(second, run)
        code = other.wait()
        refused = code == 2 and one_line(other) and "is in use" in other.output
        out.injected += refused
        out.expect(refused, other, f"{second} beside {first} ended with {code}")
        out.expect(started.wait() == 0, started, f"{first} beside {second}")
        out.compare(bench, first, run)


def clock(bench: Bench, rng: random.Random, out: Outcome) -> None:
    """A clock that jumps by years while the command runs, and files of all ages; each command."""
    for name in COMMANDS:
        run = bench.copy(name)
        worlds.shuffle_file_times(run, rng)
        with worlds.jumping_clock(bench.folder, rng) as environment:
            code, output = worlds.as_script(bench, name, run, environment)
        out.injected += 1
        if code:
            out.complaints.append(f"{name} ended with {code}: {output[-600:]}")
        out.compare(bench, name, run)


def no_network(bench: Bench, _: random.Random, out: Outcome) -> None:
    """No network at all, each command."""
    for name in COMMANDS:
        run = bench.copy(name)
        code, output = worlds.as_script(bench, name, run, prefix=["unshare", "-rn"])
        out.injected += 1
        if code:
            out.complaints.append(f"{name} ended with {code}: {output[-600:]}")
        out.compare(bench, name, run)


def gpu_memory(bench: Bench, _: random.Random, out: Outcome) -> None:
    """A model that runs out of memory above 300 tokens: SIMULATED, there is no GPU here."""
    run = bench.copy("extract")
    calm = bench.start("extract", run, worlds.batches_of_a_gpu)
    out.expect(calm.wait() == 0, calm, "batches")
    wanted = bench.outputs(run)
    shutil.rmtree(run)
    run = bench.copy("extract")
    started = bench.start("extract", run, worlds.short_of_memory)
    out.expect(started.wait() == 0, started, "short of memory")
    out.injected += "out of GPU memory" in started.output
    out.rows_lost += bench.rows_lost(run)
    out.unequal += worlds.beyond_rounding(wanted, bench.outputs(run))
    shutil.rmtree(run)


def not_finite(bench: Bench, _: random.Random, out: Outcome) -> None:
    """A model whose embedding of one token is infinite: its battles named, all others as before."""
    worlds.infinite_token(bench, out)


def read_only_cache(bench: Bench, _: random.Random, out: Outcome) -> None:
    """A model cache that may only be read, as a user who is not root."""
    worlds.read_only_cache(bench, out)


FAULTS: dict[str, Callable[[Bench, random.Random, Outcome], None]] = {
    "killed (kill -9)": killed,
    "interrupted (Ctrl-C)": interrupted,
    "disk full in the middle": full,
    "a flipped bit": flipped,
    "a file cut short": short,
    "two processes on one run": together,
    "a clock that jumps": clock,
    "no network": no_network,
    "states that are not finite": not_finite,
    "a model cache that may only be read": read_only_cache,
    "GPU memory runs out (simulated)": gpu_memory,
}


def main() -> int:
    """Inject, print the table; 1 where anything was lost, unequal or reported in the wrong way."""
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--times", type=int, default=3, help="rounds over all commands (3)")
    p.add_argument("--seed", type=int, default=0, help="of the random moments and places (0)")
    p.add_argument("--only", action="append", help="faults whose name holds this; may be repeated")
    arguments = p.parse_args()
    failed = False
    with tempfile.TemporaryDirectory(prefix="faults.") as folder:
        bench = Bench(Path(folder) / "bench")
        print(f"{'fault':<38}{'injected':>9}{'rows lost':>11}  output equal", flush=True)
        for title, inject in FAULTS.items():
            if arguments.only and not any(part in title for part in arguments.only):
                continue
            out = Outcome()
            rng = random.Random(f"{arguments.seed} {title}")
            for _ in range(arguments.times):
                inject(bench, rng, out)
            equal = "yes" if not out.unequal else f"NO: {', '.join(sorted(set(out.unequal)))}"
            print(f"{title:<38}{out.injected:>9}{out.rows_lost:>11}  {equal}", flush=True)
            for complaint in out.complaints:
                print(f"  COMPLAINT {complaint}", flush=True)
            failed |= bool(out.rows_lost or out.unequal or out.complaints)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
