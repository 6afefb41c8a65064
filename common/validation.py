"""What pydantic finds wrong, for people."""

from __future__ import annotations

from pydantic import ValidationError


def problems(error: ValidationError) -> str:
    """Every problem on one line: the field, what is wrong with it, and its value."""
    lines: dict[str, str] = {}
    for problem in error.errors(include_url=False):
        name = str(problem["loc"][0]) if problem["loc"] else ""
        # A union reports a problem for each of its types.
        value = f" (it is {problem['input']!r})" if name and problem["type"] != "missing" else ""
        lines.setdefault(name, f"{name}: {problem['msg']}{value}".removeprefix(": "))
    return "; ".join(lines.values())
