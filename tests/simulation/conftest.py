"""``--seed N`` runs one schedule again, ``--seed N-M`` all from N to M; without it, each test has its own."""

from __future__ import annotations

import pytest

#: Schedules in the default run, and further ones marked ``full``.
FEW, MANY = 100, 1000


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", metavar="N[-M]", help="tests/simulation: the schedules to run, by their seeds")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" not in metafunc.fixturenames:
        return
    given = metafunc.config.getoption("--seed", default=None)
    if given is None:
        full = [pytest.param(seed, marks=pytest.mark.full) for seed in range(FEW, FEW + MANY)]
        metafunc.parametrize("seed", [*range(FEW), *full])
    else:
        first, _, last = given.partition("-")
        metafunc.parametrize("seed", range(int(first), int(last or first) + 1))
