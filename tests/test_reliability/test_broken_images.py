"""Photographs that cannot be read, as users of the tools meet them."""

import pytest

pytestmark = pytest.mark.slow


def test_short_form(run_row):
    outcome = run_row('broken-images', 4)
    assert outcome.failures == []


def test_without_the_protection(run_row):
    assert run_row('broken-images', 3, 'load-image').failures
