"""Small tables beside the battles: votes of a hold-out, the source of each battle."""

from __future__ import annotations

import numpy as np
import pandas as pd

from arena.errors import UserError


def read_csv(path: str, columns: list[str]) -> pd.DataFrame:
    """A CSV indexed by id that must have ``columns``.

    Raises:
        UserError: it cannot be read, lacks a column or repeats an id.
    """
    try:
        found = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    for column in ["id", *columns]:
        if column not in found:
            raise UserError(f"{path} has no column {column}")
    if found["id"].duplicated().any():
        raise UserError(f"{path} repeats the id {found['id'][found['id'].duplicated()].iloc[0]}")
    return found.set_index("id")


def sources(ids: pd.Series, path: str | None) -> np.ndarray | None:
    """The source of each battle by a CSV of ids and one more column, str (n,); "" if not in it.

    Raises:
        UserError: the file cannot be read or has other columns.
    """
    if path is None:
        return None
    found = read_csv(path, [])
    if len(found.columns) != 1:
        raise UserError(f"{path} needs the column id and one more, that names slices")
    return found.iloc[:, 0].reindex(ids).fillna("").to_numpy(dtype=str)
