"""An Optuna study that one process owns, or that several share through a database.

Who shares a study starts a trial, and goes on with it only if fewer than the wanted number are
done or under way before it: numbers are given out by the database, so no two take the last place.
A trial whose process sends no sign of life for ``GRACE`` seconds is failed by the others, and its
place is free again. Times are the database's, not those of the machines.
"""

from __future__ import annotations

import sqlite3
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError
from tenacity import retry as retrying
from tenacity import retry_if_exception_type, stop_after_attempt, wait_random

from arena.schema import SEED
from common.errors import Code, UserError

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)

BEAT, GRACE = 10, 60
"""Seconds between signs of life of a shared trial, and without any until it counts as dead."""

POLL = 1.0
"""Seconds between looks at the trials of others."""

BASELINE, SEARCH = "baseline", "search"
"""Attributes by which a trial says that it began, with the baseline or with others."""


class _Enough(Exception):  # noqa: N818
    """Others have taken the trials that were wanted."""


class Study:
    """One study, opened or begun."""

    def __init__(self, storage: Path | URL, name: str, baseline: Mapping[str, float]) -> None:
        """Open it.

        Args:
            storage: SQLite file of this process alone, or a database for all.
            name: of the study.
            baseline: parameters that one of its trials tries.

        Raises:
            UserError: the database's driver is not installed.
            StorageInternalError, SQLAlchemyError: the storage cannot be used.
        """
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.simplefilter("ignore", ExperimentalWarning)
        self.shared = isinstance(storage, URL)
        self.baseline = dict(baseline)
        self._study = _opened(storage, name) if isinstance(storage, URL) else _owned(storage, name)
        self._unmarked: dict[int, float] = {}

    def fill(
        self,
        objective: Callable[[optuna.Trial], float],
        wanted: int,
        progress: Callable[[], None] = lambda: None,
    ) -> list[dict[str, float]]:
        """Run trials until ``wanted`` are done, by whomever.

        Args:
            objective: what a trial does; what it returns is minimized.
            wanted: trials in all, those of before among them.
            progress: called once for each trial that is done.

        Returns:
            Parameters of the trials that were not pruned, the best first.
        """
        while (done := self._count(FINISHED)) < wanted:
            if self.shared and self._count((*FINISHED, TrialState.RUNNING)) >= wanted:
                self._wait()
            else:
                self._run(objective, wanted)
            for _ in range(self._count(FINISHED) - done):
                progress()
        whole = self._trials((TrialState.COMPLETE,))
        return [t.params for t in sorted(whole, key=lambda t: (t.value, t.number))]

    def _trials(self, states: Sequence[TrialState] | None = None) -> list[FrozenTrial]:
        found: list[FrozenTrial] = self._study.get_trials(deepcopy=False, states=states)
        return found

    def _count(self, states: Sequence[TrialState]) -> int:
        return len(self._trials(states))

    def _claim(self, trial: optuna.Trial, wanted: int) -> None:
        """Take a place among the ``wanted`` trials, and the sampler that belongs to it."""
        alive = (*FINISHED, TrialState.RUNNING) if self.shared else FINISHED
        before = [t for t in self._trials() if t.number < trial.number]
        living = [t for t in before if t.state in alive]
        if len(living) >= wanted:
            raise _Enough
        lost = any(BASELINE in t.user_attrs for t in before if t.state not in alive)
        # Two that begin at once may both make up for a lost baseline, at the cost of a trial.
        first = not living or (lost and not any(BASELINE in t.user_attrs for t in living))
        # A place that fell free keeps the seed, so that an interrupted study of one process ends as
        # an undisturbed one does; of many processes no two may search with the same seed.
        number = trial.number if self.shared else len(living)
        sampler = optuna.samplers.TPESampler(seed=SEED + number, n_startup_trials=8)
        self._study.sampler = (
            optuna.samplers.PartialFixedSampler(self.baseline, sampler) if first else sampler
        )
        trial.set_user_attr(BASELINE if first else SEARCH, True)

    def _run(self, objective: Callable[[optuna.Trial], float], wanted: int) -> None:
        """Run one trial, unless others are faster."""
        given_up = False

        def claimed(trial: optuna.Trial) -> float:
            nonlocal given_up
            self._claim(trial, wanted)
            try:
                return objective(trial)
            finally:
                failed = self._trials((TrialState.FAIL,))
                given_up = any(t.number == trial.number for t in failed)

        try:
            self._study.optimize(claimed, n_trials=1, catch=(_Enough,))
        except UnboundLocalError as error:
            # Optuna 5.0 trips over an interrupt that comes while it writes down a trial.
            if isinstance(error.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            raise
        except Exception:
            # Others failed the trial, since this process had stood still: there is no result.
            if not given_up:
                raise

    def _wait(self) -> None:
        """Give the others time, and fail what a dead process left."""
        time.sleep(POLL)
        optuna.storages.fail_stale_trials(self._study)
        # A process may die between starting a trial and its first sign of life.
        now = time.monotonic()
        unmarked = [t.number for t in self._trials((TrialState.RUNNING,)) if not t.user_attrs]
        self._unmarked = {n: self._unmarked.get(n, now) for n in unmarked}
        for number, since in self._unmarked.items():
            if now - since > GRACE:
                with suppress(UpdateFinishedTrialError):
                    self._study.tell(number, state=TrialState.FAIL, skip_if_finished=True)


def _owned(path: Path, name: str) -> optuna.Study:
    path.parent.mkdir(parents=True, exist_ok=True)
    # No URL holds every path: a "?" would end it.
    connect = partial(sqlite3.connect, path, check_same_thread=False)
    return _study(optuna.storages.RDBStorage("sqlite:///study.db", {"creator": connect}), name)


# Two processes that begin a database at once get in each other's way.
@retrying(
    retry=retry_if_exception_type((SQLAlchemyError, StorageInternalError)),
    stop=stop_after_attempt(5),
    wait=wait_random(0.1, 1.0),
    reraise=True,
)
def _opened(url: URL, name: str) -> optuna.Study:
    sqlite = url.get_backend_name() == "sqlite"
    try:
        storage = optuna.storages.RDBStorage(
            url.render_as_string(hide_password=False),
            # pool_pre_ping is Optuna's own default, which these arguments would replace.
            {"pool_pre_ping": True, "connect_args": {"timeout": GRACE}} if sqlite else None,
            heartbeat_interval=BEAT,
            grace_period=GRACE,
        )
    except ImportError as error:
        raise UserError(
            Code.DATABASE_DRIVER_MISSING,
            f"{url} needs a driver that is not installed ({error}): for PostgreSQL "
            "`pip install psycopg[binary]` and a URL that begins with postgresql+psycopg://",
        ) from error
    return _study(storage, name)


def _study(storage: optuna.storages.RDBStorage, name: str) -> optuna.Study:
    return optuna.create_study(
        storage=storage,
        study_name=name,
        direction="minimize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4),
    )
