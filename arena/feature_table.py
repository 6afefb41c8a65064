"""A table of features in which every column declares what a swap of A and B does to it.

The *parity* of a column is

* ``anti``: its sign flips (``a - b``),
* ``sym``: it stays (``|a - b|``, ``a + b``, anything of the prompt alone),
* ``paired``: it trades places with its ``partner`` column.

So a swapped battle costs nothing: :meth:`FeatureTable.swap` is exact and needs no text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd
import pyarrow as pa

from common.parquet import damaged, read_notes, read_table, write_groups

Parity = Literal["anti", "sym", "paired"]
PARITIES = get_args(Parity)

FAMILY = re.compile(r"[\w.-]*")


@dataclass(frozen=True)
class Column:
    """The parity of a column under a swap of A and B, and its family of features."""

    parity: Parity
    family: str = ""
    partner: str = ""

    def __post_init__(self) -> None:
        """Raise ``ValueError`` for an unknown parity or a malformed family."""
        if self.parity not in PARITIES:
            raise ValueError(f"parity {self.parity!r}")
        if not FAMILY.fullmatch(self.family):
            raise ValueError(f"family {self.family!r}")


class FeatureTable:
    """Features of a table of battles, one row per battle in the battles' order.

    Attributes:
        ids: battle ids, shape (n,).
        values: float32, shape (n, d); NaN means missing.
        columns: name -> :class:`Column`, in column order.
    """

    def __init__(
        self, ids: Sequence[str], values: np.ndarray, columns: Mapping[str, Column]
    ) -> None:
        """Check shapes and partners; raise ``ValueError`` where they contradict each other."""
        self.ids = list(ids)
        self.values = np.ascontiguousarray(values, dtype=np.float32)
        self.columns = dict(columns)
        if self.values.shape != (len(self.ids), len(self.columns)):
            raise ValueError(
                f"values {self.values.shape}: {len(self.ids)} ids, {len(self.columns)} columns"
            )
        for name, column in self.columns.items():
            if (column.parity == "paired") != bool(column.partner):
                raise ValueError(f"column {name}: a partner belongs to a paired column, only")
            if column.partner and self.columns[column.partner].partner != name:
                raise ValueError(f"column {name}: {column.partner} does not name it as its partner")
        places = {name: place for place, name in enumerate(self.columns)}
        self._order = np.array(
            [places[c.partner or n] for n, c in self.columns.items()], dtype=np.intp
        )
        self._sign = np.array(
            [-1.0 if c.parity == "anti" else 1.0 for c in self.columns.values()], dtype=np.float32
        )

    @property
    def names(self) -> list[str]:
        """Column names in order."""
        return list(self.columns)

    def swapped_values(self) -> np.ndarray:
        """The values of the same battles with A and B exchanged; float32, shape (n, d)."""
        swapped: np.ndarray = self.values[:, self._order] * self._sign
        return swapped

    def swap(self) -> FeatureTable:
        """The table of the same battles with A and B exchanged."""
        return FeatureTable(self.ids, self.swapped_values(), self.columns)

    def take(self, rows: np.ndarray) -> FeatureTable:
        """The table of the battles at positions ``rows`` (integer array or boolean mask)."""
        positions = np.arange(len(self.ids))[rows]
        return FeatureTable([self.ids[i] for i in positions], self.values[positions], self.columns)

    def frame(self) -> pd.DataFrame:
        """The features as a DataFrame indexed by id."""
        return pd.DataFrame(self.values, index=pd.Index(self.ids, name="id"), columns=self.names)

    def write(self, path: Path, battles: str = "", source: str = "", kind: str = "") -> None:
        """Write parquet, atomically; the arguments are those of :func:`write_feature_tables`."""
        write_feature_tables(path, [self], battles, source, kind)

    def _arrow(self) -> pa.Table:
        fields = [pa.field("id", pa.string())]
        arrays = [pa.array(self.ids, pa.string())]
        for i, (name, column) in enumerate(self.columns.items()):
            meta = {k: v for k, v in asdict(column).items() if v}
            fields.append(pa.field(name, pa.float32(), metadata={"tiebreak": json.dumps(meta)}))
            arrays.append(pa.array(self.values[:, i], pa.float32(), from_pandas=False))
        return pa.Table.from_arrays(arrays, schema=pa.schema(fields))

    @classmethod
    def read(cls, path: Path) -> FeatureTable:
        """Read what :meth:`write` wrote, and compare it with its checksum.

        Raises:
            UserError: it is damaged.
        """
        table, notes = read_table(path), read_notes(path)
        columns: dict[str, Column] = {}
        try:
            for field in table.schema:
                if field.name != "id":
                    columns[field.name] = Column(**json.loads(field.metadata[b"tiebreak"]))
            values = np.empty((table.num_rows, len(columns)), dtype=np.float32)
            for i, name in enumerate(columns):
                values[:, i] = table.column(name).to_numpy()
            features = cls(table.column("id").to_pylist(), values, columns)
            checksum = _Checksum()
            checksum.add(features)
            if checksum.digest() != notes.get("sha256"):
                raise ValueError("its checksum does not match")
            return features
        except (pa.ArrowException, LookupError, TypeError, ValueError, RecursionError) as error:
            raise damaged(path, error) from error


def write_feature_tables(
    path: Path,
    parts: Iterable[FeatureTable],
    battles: str | Callable[[], str] = "",
    source: str = "",
    kind: str = "",
) -> None:
    """Write tables of successive battles as one table, atomically, as they come.

    Each column's parity stands in its field's metadata.

    Args:
        path: where to.
        parts: at least one.
        battles: ``arena.battle_table.texts_hash`` of the battles, by which ``read_dataset`` knows
            them; or a function that returns it, called after the last part.
        source: hash of the model and settings that made the features, "" where there is no model.
        kind: name of the view's kind (``arena.view.KINDS``); without one there is no such note.
    """
    checksum = _Checksum()

    def tables() -> Iterator[pa.Table]:
        for part in parts:
            checksum.add(part)
            yield part._arrow()

    write_groups(
        path,
        tables(),
        lambda: {
            "battles": battles() if callable(battles) else battles,
            "source": source,
            "sha256": checksum.digest(),
            **({"kind": kind} if kind else {}),
        },
    )


class _Checksum:
    """Hash of ids, values and columns, independent of how the rows are divided into parts."""

    def __init__(self) -> None:
        self._ids, self._values, self._columns = sha256(), sha256(), ""

    def add(self, part: FeatureTable) -> None:
        """Add the next rows."""
        self._ids.update("".join(f"{json.dumps(name)}\n" for name in part.ids).encode())
        # Parquet keeps only one kind of NaN and one kind of zero.
        self._values.update(np.where(np.isnan(part.values), np.nan, part.values + 0).data)
        self._columns = json.dumps({name: asdict(c) for name, c in part.columns.items()})

    def digest(self) -> str:
        parts = (self._ids.digest(), self._values.digest(), self._columns.encode())
        return sha256(b"".join(parts)).hexdigest()


def join(views: Mapping[str, FeatureTable]) -> FeatureTable:
    """Join tables of the same battles; column ``c`` of view ``v`` becomes ``v.c``."""
    ids = next(iter(views.values())).ids
    columns: dict[str, Column] = {}
    for view_name, view in views.items():
        if view.ids != ids:
            raise ValueError(f"view {view_name} is not of the same battles")
        for name, column in view.columns.items():
            partner = f"{view_name}.{column.partner}" if column.partner else ""
            columns[f"{view_name}.{name}"] = Column(
                column.parity, column.family or view_name, partner
            )
    return FeatureTable(ids, np.concatenate([v.values for v in views.values()], axis=1), columns)
