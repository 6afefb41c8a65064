"""What every command shares: arguments with printed defaults, and how it ends."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

from common.errors import Code, UserError

CONSOLE = "tiebreak "
"""How the name of a command begins that the console command runs."""

CONSOLE_NAMES = {"train_meta": "train"}
"""Names of commands there, by their files; of the others both are the same."""

STOPPED = "\nstopped; the same command goes on where this one stopped"
NO_KERNELS = (
    "This build of PyTorch cannot run on this GPU. Install a build that can, or use the CPU: set "
    "CUDA_VISIBLE_DEVICES to nothing."
)
RERUN = "Fix this and rerun the command; finished work is reused."


class Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows every default that is something, and a docstring as it stands."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


def leave_on_interrupt() -> None:
    """Let Ctrl-C end the process at once, in one line, until ``run`` takes over.

    The libraries take seconds to load, and there is nothing to lose yet.
    """
    # Whoever starts a command in the background may have told it to ignore Ctrl-C.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def _leave(_: int, __: FrameType | None) -> None:
    os.write(2, f"{STOPPED}\n".encode())
    os._exit(130)


class Parser(argparse.ArgumentParser):
    """A parser that reports a usage error as every other mistake: one line that has a code."""

    def error(self, message: str) -> NoReturn:
        """Print the line and exit with code 2, without argparse's usage text."""
        self.exit(2, f"{UserError(Code.USAGE, f'{message} (see {self.prog} --help)')}\n")


def parser(description: str | None) -> Parser:
    """A parser whose --help shows every default; ``description`` is the command's docstring."""
    return Parser(description=description, formatter_class=Formatter)


def count(text: str) -> int:
    """An argument that counts something, of which there may be none: an integer of at least 0."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is less than 0")
    return value


def positive(text: str) -> int:
    """An argument that counts something: an integer of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return value


def folds(text: str) -> int:
    """An argument that counts folds of the second stage: an integer of at least 3."""
    value = int(text)
    if value < 3:
        raise argparse.ArgumentTypeError(
            f"{text} is less than 3: one fold to train on, one to stop by, one to score"
        )
    return value


def add_second_stage(p: argparse.ArgumentParser, *, trials: int, bags: int) -> None:
    """Options of how much work the second stage does; ``trials`` and ``bags`` are defaults."""
    p.add_argument(
        "--trials",
        type=int,
        default=trials,
        metavar="N",
        help="Optuna trials a study, each on 10,000 battles at most",
    )
    p.add_argument("--folds", type=folds, default=5, metavar="K", help="folds of prompt groups")
    p.add_argument("--bags", type=positive, default=bags, metavar="N", help="boosters")
    p.add_argument(
        "--no-forest",
        dest="forest",
        action="store_false",
        help="boosters alone, without a forest beside them",
    )


def percentage(text: str) -> float:
    """An argument that is a share of a whole, such as 5% or 5: from 0 to 100."""
    value = float(text.removesuffix("%"))
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{text} is not between 0% and 100%")
    return value / 100


def names(text: str) -> list[str]:
    """An argument that lists names, at least one: parted by commas."""
    found = [name.strip() for name in text.split(",") if name.strip()]
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} names nothing: part names by commas")
    return found


def named(arguments: argparse.Namespace) -> dict[str, Any]:
    """The arguments that were named on the command line, or have a default."""
    return {name: value for name, value in vars(arguments).items() if value is not None}


def run(command: Callable[[argparse.Namespace], None], arguments: argparse.Namespace) -> int:
    """Print the arguments, run the command, return the exit code.

    A user's mistake, a disk that is full or not to be written, or memory that does not suffice, is
    one line on stderr and exit code 2; Ctrl-C is exit code 130.
    """
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    shown = " ".join(f"{k}={_shown(v)}" for k, v in vars(arguments).items() if v is not None)
    print(f"settings: {shown}", flush=True)
    try:
        command(arguments)
    except UserError as error:
        return _failed(error)
    except OSError as error:
        return _failed(UserError(Code.SYSTEM_ERROR, f"{error}. {RERUN}"))
    except KeyboardInterrupt:
        print(STOPPED, file=sys.stderr)
        return 130
    except Exception as error:
        if isinstance(error, RuntimeError) and "no kernel image" in str(error):
            reason = str(error).splitlines()[0]
            return _failed(UserError(Code.GPU_UNSUPPORTED, f"{reason}. {NO_KERNELS}"))
        advice = _memory_advice(error)
        if not advice:
            raise
        reason = str(error)[:200] or "no more is granted"
        return _failed(UserError(Code.OUT_OF_MEMORY, f"Out of memory ({reason}). {advice}"))
    return 0


def _shown(value: Any) -> str:
    """The value of an argument; of one that takes several, all of them."""
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _failed(error: UserError) -> int:
    """Print a mistake in one line on stderr; the exit code for it."""
    print(as_called(str(error)), file=sys.stderr)
    return 2


def as_called(text: str) -> str:
    """A text that names commands, as they are called: where ``tiebreak`` is, by its names."""
    if not sys.argv[0].startswith(CONSOLE):
        return text
    return re.sub(
        r"python pipelines/(\w+)\.py",
        lambda match: CONSOLE + CONSOLE_NAMES.get(match[1], match[1]),
        text,
    )


def print_next(result: str, step: str) -> None:
    """Print what a command has made and which one comes next, see ``tiebreak.next_step``."""
    print(as_called(f"{result}; next: python pipelines/{step}" if step else result))


def _memory_advice(error: Exception) -> str:
    """What to do where the memory did not suffice; "" for any other error.

    PyTorch's own are known by their names and words: most commands do without it.
    """
    if isinstance(error, MemoryError):
        return "Take a machine with more memory, or fewer rows (extract.py --limit N)."
    known = any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__)
    words = ("out of memory", "can't allocate memory")
    if known or (isinstance(error, RuntimeError) and any(word in str(error) for word in words)):
        return (
            "Take a smaller backbone, --quantization nf4, or fewer tokens (--max-tokens, or "
            "max_tokens and batch_tokens of the backbone's YAML)."
        )
    return ""
