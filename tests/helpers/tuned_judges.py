"""Judges of tiny models, cross-fitted on toy battles."""

from dataclasses import replace

from arena.folds import held_out
from embeddings.judge.cross_fit import Judges, crossfit
from tests.helpers.planted import QUICK, examples

BRIEF = replace(QUICK, batch=4)


def fit(battles, config, recipe, folder, folds=2, **changes):
    """Judges, their folders and the view of the training battles."""
    judges = Judges(config, recipe, folder, checkpoint_steps=100)
    learned = replace(examples(battles, config, recipe), **changes)
    judges.prepare(learned.pairs)
    folders, view = crossfit(judges, learned, held_out(battles["group"], folds), learned.pairs)
    return judges, folders, view
