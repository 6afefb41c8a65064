"""Assertions about the mistakes of a user: their code, and that they are one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from common.errors import Code, UserError


@contextmanager
def raises(code: Code, match: str | None = None) -> Iterator[pytest.ExceptionInfo[UserError]]:
    """Expect a ``UserError`` of this code.

    Args:
        code: its code.
        match: a pattern of a value that the message must name (a file, an id), not of its prose.
    """
    with pytest.raises(UserError, match=match) as caught:
        yield caught
    assert caught.value.code is code, str(caught.value)


def error_line(capsys: pytest.CaptureFixture[str], code: Code) -> str:
    """The one line that a command has printed on stderr, which begins with this code."""
    line = capsys.readouterr().err
    assert line.startswith(f"[{code}] "), line
    assert line.count("\n") == 1
    assert line.endswith("\n")
    return line
