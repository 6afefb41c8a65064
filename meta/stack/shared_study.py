"""An Optuna study that one process owns, or that several share through a database.

A process that shares a study starts a trial, and runs it only if fewer than ``n_trials`` trials
with lower numbers are finished or running: the database assigns the numbers, so no two processes
take the last place. A trial whose process sends no heartbeat for ``GRACE`` seconds is failed by the
others, and its place is free again. Times are the database's, not those of the machines.
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

HEARTBEAT, GRACE = 10, 60
"""Seconds between heartbeats of a shared trial, and without any until it counts as dead."""

POLL = 1.0
"""Seconds between looks at the trials of others."""

BASELINE, SEARCH = "baseline", "search"
"""Attributes of a trial that has started, with the baseline or with other parameters."""


class _AllTaken(Exception):  # noqa: N818
    """Other processes have taken all trials."""


class Study:
    """One study, opened or created."""

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
        self._study = (
            _open_shared(storage, name) if isinstance(storage, URL) else _open_owned(storage, name)
        )
        self._unmarked: dict[int, float] = {}

    def run(
        self,
        objective: Callable[[optuna.Trial], float],
        n_trials: int,
        progress: Callable[[], None] = lambda: None,
    ) -> list[dict[str, float]]:
        """Run trials until ``n_trials`` are finished, in this process or in others.

        Args:
            objective: runs a trial; the value that it returns is minimized.
            n_trials: trials in all, earlier ones included.
            progress: called once for each trial that finishes.

        Returns:
            Parameters of the trials that were not pruned, the best first.
        """
        while (done := self._count(FINISHED)) < n_trials:
            if self.shared and self._count((*FINISHED, TrialState.RUNNING)) >= n_trials:
                self._wait()
            else:
                self._run_one(objective, n_trials)
            for _ in range(self._count(FINISHED) - done):
                progress()
        complete = self._trials((TrialState.COMPLETE,))
        return [t.params for t in sorted(complete, key=lambda t: (t.value, t.number))]

    def _trials(self, states: Sequence[TrialState] | None = None) -> list[FrozenTrial]:
        trials: list[FrozenTrial] = self._study.get_trials(deepcopy=False, states=states)
        return trials

    def _count(self, states: Sequence[TrialState]) -> int:
        return len(self._trials(states))

    def _claim(self, trial: optuna.Trial, n_trials: int) -> None:
        """Take a place among the ``n_trials`` trials, and set the sampler of that place."""
        alive = (*FINISHED, TrialState.RUNNING) if self.shared else FINISHED
        before = [t for t in self._trials() if t.number < trial.number]
        living = [t for t in before if t.state in alive]
        if len(living) >= n_trials:
            raise _AllTaken
        lost = any(BASELINE in t.user_attrs for t in before if t.state not in alive)
        # Two that start at once may both replace a lost baseline, at the cost of a trial.
        first = not living or (lost and not any(BASELINE in t.user_attrs for t in living))
        # A freed place keeps its seed, so that an interrupted study of one process ends as an
        # undisturbed one does; of many processes no two may search with the same seed.
        number = trial.number if self.shared else len(living)
        sampler = optuna.samplers.TPESampler(seed=SEED + number, n_startup_trials=8)
        self._study.sampler = (
            optuna.samplers.PartialFixedSampler(self.baseline, sampler) if first else sampler
        )
        trial.set_user_attr(BASELINE if first else SEARCH, True)

    def _run_one(self, objective: Callable[[optuna.Trial], float], n_trials: int) -> None:
        """Run one trial, unless other processes have taken all."""
        was_failed = False

        def claimed(trial: optuna.Trial) -> float:
            nonlocal was_failed
            self._claim(trial, n_trials)
            try:
                return objective(trial)
            finally:
                failed = self._trials((TrialState.FAIL,))
                was_failed = any(t.number == trial.number for t in failed)

        try:
            self._study.optimize(claimed, n_trials=1, catch=(_AllTaken,))
        except UnboundLocalError as error:
            # Optuna 5.0 trips over an interrupt that comes while it writes down a trial.
            if isinstance(error.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            raise
        except Exception:
            # Other processes failed the trial, since this one had stopped: there is no result.
            if not was_failed:
                raise

    def _wait(self) -> None:
        """Wait for the others, and fail the trials of dead processes."""
        time.sleep(POLL)
        optuna.storages.fail_stale_trials(self._study)
        # A process may die between starting a trial and its first heartbeat.
        now = time.monotonic()
        unmarked = [t.number for t in self._trials((TrialState.RUNNING,)) if not t.user_attrs]
        self._unmarked = {n: self._unmarked.get(n, now) for n in unmarked}
        for number, since in self._unmarked.items():
            if now - since > GRACE:
                with suppress(UpdateFinishedTrialError):
                    self._study.tell(number, state=TrialState.FAIL, skip_if_finished=True)


def _open_owned(path: Path, name: str) -> optuna.Study:
    path.parent.mkdir(parents=True, exist_ok=True)
    # A URL cannot hold every path: a "?" would end it.
    connect = partial(sqlite3.connect, path, check_same_thread=False)
    return _create_study(
        optuna.storages.RDBStorage("sqlite:///study.db", {"creator": connect}), name
    )


# Two processes that create a database at once disturb each other.
@retrying(
    retry=retry_if_exception_type((SQLAlchemyError, StorageInternalError)),
    stop=stop_after_attempt(5),
    wait=wait_random(0.1, 1.0),
    reraise=True,
)
def _open_shared(url: URL, name: str) -> optuna.Study:
    sqlite = url.get_backend_name() == "sqlite"
    try:
        storage = optuna.storages.RDBStorage(
            url.render_as_string(hide_password=False),
            # pool_pre_ping is Optuna's own default, which these arguments would replace.
            {"pool_pre_ping": True, "connect_args": {"timeout": GRACE}} if sqlite else None,
            heartbeat_interval=HEARTBEAT,
            grace_period=GRACE,
        )
    except ImportError as error:
        raise UserError(
            Code.DATABASE_DRIVER_MISSING,
            f"{url} needs a driver that is not installed ({error}). For PostgreSQL: "
            "`pip install psycopg[binary]` and a URL that begins with postgresql+psycopg://.",
        ) from error
    return _create_study(storage, name)


def _create_study(storage: optuna.storages.RDBStorage, name: str) -> optuna.Study:
    return optuna.create_study(
        storage=storage,
        study_name=name,
        direction="minimize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4),
    )
