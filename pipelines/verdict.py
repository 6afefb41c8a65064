"""Stage one, without training: which letter a language model would say, A, B or C for a tie.

    python pipelines/verdict.py                                         the sample
    python pipelines/verdict.py --run runs/lmsys --backbone gemma2-9b --quantization nf4 --dry-run
    python pipelines/verdict.py --run runs/lmsys --endpoint http://box:8000 --model qwen2-72b
    python pipelines/verdict.py --run runs/lmsys --view verdict-qwen2-72b    after extract.py --test

Works on the battles of a run that extract.py made, and writes one view whose name begins with
"verdict". No vote is seen. The model is a local backbone, or behind any OpenAI-compatible
completions endpoint that gives logprobs (a vLLM or llama.cpp server); its key, if it needs one,
stands in the environment variable TIEBREAK_API_KEY. With an endpoint, --backbone names the model's
tokenizer and chat template, and token ids are sent; without it plain text is sent, in which what
looks like a special token is broken up.

What is not given is taken from the run's last verdict of that view. Killed at any moment, the same
command goes on; what is answered is never asked again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if __name__ == "__main__":
    import runpy

    runpy.run_path(str(Path(__file__).with_name("_script.py")))

from common.run_dir import RunDir
from embeddings.backbone.quantization import QUANTIZATIONS
from embeddings.order_budget import BOTH, BUDGET, SHARE
from embeddings.zero_shot.endpoint import LIMITS
from pipelines import cli
from tiebreak.next_step import next_step
from tiebreak.run_record import DEFAULT_BACKBONE
from tiebreak.zero_shot import VerdictOptions, plan_lines, verdict_run


def main(arguments: argparse.Namespace) -> None:
    """Plan, or query the model and write the view."""
    run = RunDir(Path(arguments.run))
    named = cli.named(arguments)
    if arguments.dry_run:
        run.require_battles("train")
        options = VerdictOptions.of(run, named)
        print(options.line(), flush=True)
        print("\n".join(plan_lines(run, options)))
        return
    verdict_run(run, named)
    cli.print_next(f"view in {run.views}", next_step(run))


def command(argv: list[str] | None = None) -> int:
    """Parse ``argv`` (the process's arguments by default), run, return the exit code."""
    p = cli.parser(__doc__)
    p.add_argument("--run", metavar="DIR", default="runs/sample", help="run directory")
    p.add_argument(
        "--backbone",
        metavar="B",
        help=f"as for extract.py (the run's own, or {DEFAULT_BACKBONE}); with --endpoint: whose "
        "tokenizer and chat template the model there has (none: plain text)",
    )
    p.add_argument("--quantization", choices=tuple(QUANTIZATIONS), help="overrides the YAML")
    p.add_argument("--endpoint", metavar="URL", help="of the API, such as http://localhost:8000/v1")
    p.add_argument("--model", metavar="NAME", help="the model at the endpoint")
    p.add_argument("--view", metavar="NAME", help="name of the view (verdict-<backbone or model>)")
    p.add_argument("--dry-run", action="store_true", help="print the plan and its cost, do nothing")

    # What is not named stays out of the namespace: the view's last verdict speaks then.
    def add(name: str, default: object, what: str) -> None:
        p.add_argument(
            f"--{name.replace('_', '-')}",
            default=argparse.SUPPRESS,
            metavar="N",
            type=cli.positive,
            help=f"{what} (the view's last, else {default})",
        )

    add(
        *("max_tokens", "as the backbone is fine-tuned, or 1024"),
        "most tokens of prompt and both answers; of plain text, 3 characters count as one",
    )
    p.add_argument(
        "--orders",
        choices=(BOTH, BUDGET),
        default=argparse.SUPPRESS,
        help="in which orders of its answers each battle is read: both, or one, and the other one "
        f"for the closest calls (the view's last, else {BOTH})",
    )
    p.add_argument(
        "--second-share",
        default=argparse.SUPPRESS,
        metavar="S",
        type=float,
        help=f"with --orders {BUDGET}: share of the calls that are close (the view's last, else "
        f"{SHARE})",
    )
    of_endpoint = {
        "top_logprobs": "likeliest tokens to ask for; servers have a limit",
        "concurrency": "most requests under way at any moment",
        "timeout": "seconds without an answer after which a request has failed",
        "attempts": "how often in a row a request may fail",
    }
    for name, what in of_endpoint.items():
        add(name, LIMITS[name], f"endpoint: {what}")
    return cli.run(main, p.parse_args(argv))


if __name__ == "__main__":
    sys.exit(command())
