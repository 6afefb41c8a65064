"""Small tables beside the battles: the source of each of them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from common.errors import Code, UserError


def sources(ids: pd.Series, path: str | None) -> np.ndarray | None:
    """The source of each battle by a CSV of ids and one more column, str (n,); "" if not in it.

    Raises:
        UserError: the file cannot be read, has other columns or repeats an id.
    """
    if path is None:
        return None
    try:
        found = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UserError(Code.INPUT_UNREADABLE, f"cannot read {path}: {error}") from None
    if "id" not in found or len(found.columns) != 2:
        raise UserError(
            Code.COLUMN_MISSING, f"{path} needs the column id and one more, that names slices"
        )
    if found["id"].duplicated().any():
        raise UserError(
            Code.ID_REPEATED,
            f"{path} repeats the id {found['id'][found['id'].duplicated()].iloc[0]}",
        )
    return found.set_index("id").iloc[:, 0].reindex(ids).fillna("").to_numpy(dtype=str)
