"""What a user names as one table: files, globs, folders of shards, datasets that were saved."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence

import fsspec
from fsspec import AbstractFileSystem

from arena.local_copy import STDIN, opening
from arena.unpack import PACKED_ENDINGS, data_ending
from common.errors import Code, UserError

SPLITS = re.compile(
    r"(train|training|test|testing|valid|validation|val|dev|eval|holdout|sample_submission)"
    r"(?![a-z])",
    re.IGNORECASE,
)
"""Names of parts of a data set, as files begin with them, that must not become one table."""

CLUTTER = re.compile(
    r"[._].*|readme.*|license.*|notice.*|.*\.md|.*\.py|dataset_info\.json|dataset_infos\.json|"
    r"state\.json|_success|cache-.*\.arrow|tmp.*\.arrow",
    re.IGNORECASE,
)
"""Files beside the shards that nobody misses."""

SHOWN = 6
"""Names that a message lists."""


def expand(sources: Sequence[str]) -> list[str]:
    """The files of all that a user named, in a stable order, none of them twice.

    Args:
        sources: each a file or URL, ``-``, a glob (local, or one with ``*`` that fsspec expands), a
            folder of shards or a folder of ``datasets.save_to_disk``.

    Returns:
        Paths and URLs that :func:`arena.files.open_source` opens: those of each source in natural
        order (2 before 10), a saved data set's in its own. A source that names a file, or nothing
        that is there, stays as it is.

    Raises:
        UserError: a glob matches nothing; a folder holds no file of data, files of several formats,
            or several parts of a data set; a folder cannot be listed.
    """
    files = [file for source in sources for file in _expanded(source)]
    different = list(dict.fromkeys(files))
    if len(different) < len(files):
        twice = [file for file in different if files.count(file) > 1]
        print(f"named twice, read once: {_listed(twice)}", file=sys.stderr)
    return different


def natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts numbers in names as numbers."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)
    ]


def _expanded(source: str) -> list[str]:
    url = "://" in source
    # A web address is neither folder nor glob: its ? begins the query.
    if source == STDIN or "::" in source or source.startswith(("http://", "https://")):
        return [source]
    with opening(source):
        files, path = fsspec.core.url_to_fs(source)
        folder, there = files.isdir(path), files.exists(path)
        pattern = re.search("[*]" if url else r"[*?\[]", source)
        matches = files.glob(path, detail=True) if pattern and not there else {}
    if folder:
        return _shards(source.rstrip("/") or "/", files, path)
    if there or not pattern:
        return [source]
    names = [n for n, of in matches.items() if of["type"] != "directory" and not _is_clutter(n)]
    if not names:
        raise UserError(Code.INPUT_MISSING, f"No file matches {source}. Check the pattern.")
    # A path stays relative where the pattern is.
    before = path.removesuffix(source)
    shown = (files.unstrip_protocol(name) if url else name.removeprefix(before) for name in names)
    return sorted(shown, key=natural)


def _shards(folder: str, files: AbstractFileSystem, path: str) -> list[str]:
    """The files of data in a folder, which are shards of one table."""
    with opening(folder):
        entries = files.ls(path, detail=True)
        kinds = {entry["name"].rsplit("/", 1)[-1]: entry["type"] for entry in entries}
        state = files.cat_file(f"{path}/state.json") if "state.json" in kinds else b"{}"
    names = sorted((name for name in kinds if not _is_clutter(name)), key=natural)
    folders = [name for name in names if kinds[name] == "directory"]
    if "dataset_dict.json" in kinds:
        raise UserError(
            Code.INPUT_FORMAT,
            f"{folder} holds several splits of a data set. Name one of its folders: "
            f"{_listed(folders)}.",
        )
    shards = _saved_order(folder, state) or _by_name(folder, [n for n in names if n not in folders])
    for name in shards:
        if name not in kinds:
            raise UserError(
                Code.INPUT_MISSING, f"{folder} lacks its file {name[:80]}. Save the data again."
            )
    others = [name for name in names if name not in shards]
    if not shards:
        advice = " Name one of its folders." if folders else ""
        raise UserError(
            Code.INPUT_MISSING,
            f"{folder} is a folder without files of data. It holds: {_listed(others)}.{advice}",
        )
    if others:
        print(f"{folder}: not read: {_listed(others)}", file=sys.stderr)
    return [f"{folder}/{name}" for name in shards]


def _is_clutter(path: str) -> bool:
    return CLUTTER.fullmatch(path.rsplit("/", 1)[-1]) is not None


def _saved_order(folder: str, state: bytes) -> list[str]:
    """The shards of a saved data set in its own order, [] where it does not tell."""
    try:
        return [str(entry["filename"]) for entry in json.loads(state).get("_data_files", [])]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        raise UserError(
            Code.INPUT_DAMAGED, f"{folder}/state.json is damaged. Save the data set again."
        ) from None


def _by_name(folder: str, names: list[str]) -> list[str]:
    """Those files of a folder that are shards by their names."""
    formats = {name: data_ending(name) for name in names}
    # Beside other files of data these tell about them.
    notes = ("json", "txt") if set(formats.values()) - {"", "json", "txt"} else ("txt",)
    shards = [name for name in formats if formats[name] not in ("", *notes)]
    _refuse_mixtures(folder, shards, {formats[name] for name in shards})
    return shards


def _refuse_mixtures(folder: str, shards: list[str], formats: set[str]) -> None:
    """Raise ``UserError`` where the files of a folder are not shards of one table."""
    if len(formats) > 1:
        raise UserError(
            Code.INPUT_FORMAT,
            f"{folder} holds files of several formats: {_listed(sorted(formats))}. Name one of "
            f"them by a glob, such as '{folder}/*.{min(formats)}'.",
        )
    plain = [re.sub(rf"\.({'|'.join(PACKED_ENDINGS)})$", "", name, flags=re.I) for name in shards]
    if twice := [name for name in dict.fromkeys(plain) if plain.count(name) > 1]:
        raise UserError(
            Code.INPUT_FORMAT,
            f"{folder} holds {_listed(twice)} packed and unpacked. Delete one of the two.",
        )
    splits = {found[1] for found in map(SPLITS.match, shards) if found}
    if len(splits) > 1:
        raise UserError(
            Code.INPUT_FORMAT,
            f"{folder} holds several parts of a data set: {_listed(sorted(splits))}. Name one of "
            f"them by a glob, such as '{folder}/{max(splits)}*'.",
        )


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:SHOWN])
    return f"{shown} and {len(names) - SHOWN} more" if len(names) > SHOWN else shown or "nothing"
