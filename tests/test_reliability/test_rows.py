"""Each row in a short form, and that it fails without what it rests on."""

import pytest
from reliability import two_ranks
from reliability.rows import all_rows

# How many cases, or what their names have; tests of files are in modules of their own.
SHORT = [
    ('kill-while-saving', 2),
    ('kill-and-resume', 2),
    ('corrupt-checkpoint', 'half of it'),
    ('two-ranks', 3),
    ('two-ranks', '3 images evaluated'),
    ('full-disk', 'a checkpoint'),
    ('ctrl-c', 'at its start'),
    ('numbers', 'loss_mask'),
    ('numbers', 'gradients that overflow'),
    ('memory', 'metrics'),
    ('gpu-script', 1),
]
# Of killing while saving, tests/test_engine/test_atomic_checkpoint_hook.py takes every moment.
WITHOUT = {
    ('kill-and-resume', 'placed-seeds'): 2,
    ('kill-and-resume', 'placed-samples'): 2,
    ('kill-and-resume', 'place-in-the-data'): 2,
    ('corrupt-checkpoint', 'fallback'): 'half of it, alone',
    ('corrupt-checkpoint', 'comparison-of-weights'): 'half of the weights, alone',
    ('two-ranks', 'gradients-of-nothing'): 'full beside empty',
    ('two-ranks', 'each-image-once'): '3 images evaluated',
    ('full-disk', 'lock'): 'two predictions',
    ('full-disk', 'whole-files'): 'a checkpoint',
    ('ctrl-c', 'answer-to-ctrl-c'): 'train.py, at its start',
    ('numbers', 'finite-losses'): 'loss_mask + nan',
    ('numbers', 'overflows-left-out'): 'gradients that overflow',
    ('numbers', 'checks-of-fusion'): 'of fusion',
    ('numbers', 'finite-weights'): 'weights, test.py',
    ('memory', 'letting-go'): 'metrics',
    ('gpu-script', 'results-at-any-time'): 1,
}


@pytest.mark.slow
@pytest.mark.parametrize(('name', 'cases'), SHORT)
def test_all_goes_well(run_row, name, cases):
    outcome = run_row(name, cases)
    assert outcome.failures == []
    assert outcome.cases


@pytest.mark.slow
@pytest.mark.parametrize(('name', 'protection'), WITHOUT)
def test_fails_without(run_row, name, protection, monkeypatch):
    monkeypatch.setattr(two_ranks, 'SECONDS', 15)  # without gradients of nothing, ranks hang
    outcome = run_row(name, WITHOUT[name, protection], protection)
    assert outcome.good < outcome.cases


def test_every_protection_is_taken_out():
    elsewhere = {'kill-while-saving', 'malformed-annotations', 'broken-images', 'hostile-files'}
    rows = all_rows()
    assert set(WITHOUT) == {
        (name, protection)
        for name in rows.keys() - elsewhere
        for protection in rows[name].protections
    }
