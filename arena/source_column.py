"""The source of each battle, such as the site where it was voted on: a CSV of ids and sources."""

from __future__ import annotations

import numpy as np
import pandas as pd

from common.errors import Code, UserError


def read_sources(path: str, ids: pd.Series) -> np.ndarray:
    """Read the source of each battle.

    Args:
        path: of a CSV with the column id and one more.
        ids: battle ids as text, n.

    Returns:
        str (n,), "" for a battle that the file lacks.

    Raises:
        UserError: the file cannot be read, has other columns or repeats an id.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UserError(Code.INPUT_UNREADABLE, f"{path} cannot be read: {error}") from None
    if "id" not in table or len(table.columns) != 2:
        raise UserError(Code.COLUMN_MISSING, f"{path} needs exactly two columns, id and a source.")
    repeated = table.loc[table["id"].duplicated(), "id"]
    if len(repeated):
        raise UserError(
            Code.ID_REPEATED, f"{path} repeats the id {repeated.iloc[0]}. Drop one of the rows."
        )
    return table.set_index("id").iloc[:, 0].reindex(ids).fillna("").to_numpy(dtype=str)
