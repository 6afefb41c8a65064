"""Toy cases that the tests of the audit share."""

import pytest

from tests.helpers.audit_toys import toy_case


@pytest.fixture(scope="session")
def case():
    return toy_case(seed=4)


@pytest.fixture(scope="session")
def larger():
    return toy_case(3000, seed=1, test=0)
