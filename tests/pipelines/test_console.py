"""The console command ``tiebreak``: the same functions as the files of ``pipelines``."""

import sys

import pytest

from common.errors import Code
from pipelines.__main__ import COMMANDS, main
from tests.helpers.errors import error_line


@pytest.fixture(autouse=True)
def _name_of_the_program(monkeypatch):
    """Commands put their own name there."""
    monkeypatch.setattr(sys, "argv", ["tiebreak"])


def test_help_names_every_command(capsys):
    assert main([]) == main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_under_its_own_name(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: tiebreak {name}")


def test_an_unknown_command_is_a_mistake(capsys):
    assert main(["tran"]) == 2
    assert "'tran'" in error_line(capsys, Code.USAGE)


def test_the_exit_code_is_the_command_s(tmp_path, capsys):
    assert main(["submit", "--run", str(tmp_path)]) == 2
    # And the next command is named as this one was called.
    assert "`tiebreak train" in error_line(capsys, Code.MODEL_MISSING)
