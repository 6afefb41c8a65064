"""A view: evidence about battles that the second stage can use, as an object.

A view has a name (its folder in a run), a kind, and ``transform``, which turns battles into a table
of features in memory. A run keeps what ``transform`` gave on disk; that is a cache and not the only
way. What a view is, its kind says: no code takes a name apart.

A new kind is one ``register(ViewKind(...))`` beside the class that makes it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from common.errors import Code, UserError

if TYPE_CHECKING:
    from arena.feature_table import FeatureTable
    from common.run_dir import RunDir

Architecture = Literal["handcrafted", "frozen", "fine-tuned", "combined"]


@dataclass(frozen=True)
class ViewKind:
    """What may be asked of every view of a kind."""

    name: str
    """As a run's files say it; also the view's own name where a run has one of the kind only."""
    title: str
    """For people, such as ``handcrafted signals``."""
    architecture: Architecture
    """To which part of the hybrid it belongs; ``combined``: it is learned from other views."""
    command: str
    """The command that makes it, or what it is learned from, such as ``finetune.py``."""
    view_class: str
    """``module:class`` of its :class:`View`, imported when it is needed."""
    sees_votes: bool = False
    """Whether models that learned from votes made its numbers."""
    seconds: str = ""
    """The entry of run.json that says how long it took, where ``{view}`` is its name."""


KINDS: dict[str, ViewKind] = {}
"""Every kind of view, by name."""


def register(kind: ViewKind) -> ViewKind:
    """Make a kind known."""
    KINDS[kind.name] = kind
    return kind


class View(ABC):
    """Evidence about battles.

    Attributes:
        name: of its folder in a run, and before the dot of its columns in the design matrix.
        kind: what it is.
    """

    name: str
    kind: ViewKind

    @classmethod
    @abstractmethod
    def of_run(cls, run: RunDir, name: str, shared: dict[Any, Any]) -> View:
        """The view as a run made it for its training battles; nothing heavy is loaded yet.

        Args:
            run: the run.
            name: of the view.
            shared: what views of one run have in common, such as a loaded language model, under a
                key that says what it is; a view puts there what it makes and others may use.

        Raises:
            UserError: the run lacks what the view is made with.
        """

    @abstractmethod
    def transform(self, battles: pd.DataFrame) -> FeatureTable:
        """The features of battles.

        Args:
            battles: canonical table (``arena.schema``) of n valid rows; votes are not looked at.

        Returns:
            Table of n rows in the battles' order.

        Raises:
            UserError: what it takes cannot be had.
        """


def view_of_run(run: RunDir, name: str, kind: ViewKind, shared: dict[Any, Any]) -> View:
    """The view ``name`` of a run, made once; the arguments are those of ``View.of_run``."""
    key = "view", run.folder, name
    if key not in shared:
        module, _, class_name = kind.view_class.partition(":")
        shared[key] = getattr(import_module(module), class_name).of_run(run, name, shared)
    view: View = shared[key]
    return view


def kind_named(name: str) -> ViewKind:
    """The kind of this name.

    Raises:
        UserError: there is none.
    """
    if name not in KINDS:
        raise UserError(
            Code.VIEW_KIND_UNKNOWN,
            f"No kind of view is called {name!r}. Known kinds: {', '.join(sorted(KINDS))}",
        )
    return KINDS[name]


STYLE = register(
    ViewKind(
        name="style",
        title="handcrafted signals",
        architecture="handcrafted",
        command="extract.py",
        # Importing `features` takes seconds; whoever only asks what the view is need not.
        view_class="features.view:Signals",
        seconds="style_train",
    )
)
