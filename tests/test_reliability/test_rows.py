"""Each row in a short form, and that it fails without what it rests on."""

import pytest
from reliability.rows import all_rows

SHORT = {
    'kill-while-saving': 2,
    'kill-and-resume': 2,
    'corrupt-checkpoint': 6,
    'two-ranks': 6,
    'numbers': 16,
    'gpu-script': 1,
}


@pytest.mark.slow
@pytest.mark.parametrize('name', SHORT)
def test_all_goes_well(run_row, name):
    outcome = run_row(name, SHORT[name])
    assert outcome.failures == []
    assert outcome.good == outcome.cases >= SHORT[name]


# Of killing at a random moment, tests/test_engine/test_atomic_checkpoint_hook.py takes every one.
TAKEN_OUT = [
    (name, protection)
    for name in ('kill-and-resume',)
    for protection in all_rows()[name].protections
]


@pytest.mark.slow
@pytest.mark.parametrize(('name', 'protection'), TAKEN_OUT)
def test_fails_without(run_row, name, protection):
    outcome = run_row(name, SHORT[name], protection)
    assert outcome.good < outcome.cases
