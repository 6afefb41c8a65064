"""The line that a user reads: one of each command, word by word; other tests assert codes."""

import pytest

from pipelines import (
    calibrate,
    compare,
    evaluate,
    extract,
    finetune,
    make_sample,
    report,
    submit,
    train_meta,
    verdict,
)

NO_BATTLES = (
    "[TB104] RUN has no train battles. "
    "Run `python pipelines/extract.py --train FILE --run RUN` first."
)
NO_FILE = "[TB001] none.csv does not exist. Check the path or URL."
NO_MODEL = (
    "[TB506] There is no model in RUN/model. "
    "Run `python pipelines/train_meta.py` on this run first."
)


@pytest.mark.parametrize(
    ("command", "argv", "line"),
    [
        (extract, ["--run", "RUN", "--train", "none.csv"], NO_FILE),
        (finetune, ["--run", "RUN"], NO_BATTLES),
        (verdict, ["--run", "RUN"], NO_BATTLES),
        (train_meta, ["--run", "RUN"], NO_BATTLES),
        (compare, ["--run", "RUN"], NO_BATTLES),
        (submit, ["--run", "RUN"], NO_MODEL),
        (evaluate, ["--run", "RUN"], NO_MODEL),
        (
            report,
            ["--run", "RUN"],
            "[TB510] RUN has no figures. Run `python pipelines/train_meta.py` first.",
        ),
        (calibrate, ["--probs", "none.csv"], NO_FILE),
        (
            make_sample,
            ["--votes", "2"],
            "[TB604] --votes would overwrite the shipped sample. Name another folder: --out DIR",
        ),
    ],
)
def test_a_mistake_is_told_in_plain_words(command, argv, line, tmp_path, capsys):
    run = str(tmp_path / "run")
    assert command.command([word.replace("RUN", run) for word in argv]) == 2
    assert capsys.readouterr().err == line.replace("RUN", run) + "\n"
