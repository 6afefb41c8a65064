"""The console command: ``tiebreak extract`` is ``python pipelines/extract.py``, and so on."""

from __future__ import annotations

import sys
from importlib import import_module

from common.errors import Code, UserError
from pipelines import cli

COMMANDS = {
    "extract": "battles to evidence",
    "finetune": "train judges, or a probe of the frozen model",
    "verdict": "the verdict of an untrained model",
    "train": "train the second stage, with honest metrics",
    "submit": "predict the test battles",
    "evaluate": "score the test battles whose votes are known",
    "compare": "what each part of the hybrid is worth",
    "report": "draw report.html again",
    "calibrate": "calibrate probabilities of any other model",
}
"""Every command and what it does."""

MODULES = {name: module for module, name in cli.CONSOLE_NAMES.items()}


def main(argv: list[str] | None = None) -> int:
    """Run the command that the first argument names; return its exit code."""
    name, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name not in COMMANDS:
        lines = [f"  {command:<10}{what}" for command, what in COMMANDS.items()]
        usage = "usage: tiebreak COMMAND [options], each with --help\n\n" + "\n".join(lines)
        if name in ("-h", "--help"):
            print(usage)
            return 0
        known = ", ".join(COMMANDS)
        print(UserError(Code.USAGE, f"No command {name!r}. Known are {known}."), file=sys.stderr)
        return 2
    cli.leave_on_interrupt()
    # For the usage line of --help.
    sys.argv[0] = cli.CONSOLE + name
    module = import_module(f"pipelines.{MODULES.get(name, name)}")
    code: int = module.command(rest)
    return code


if __name__ == "__main__":
    sys.exit(main())
