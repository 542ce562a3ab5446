"""What keeps malformed annotations out; tests/test_evaluation has them one by one."""

import pytest


def test_short_form(run_row):
    assert run_row('malformed-annotations', 12).failures == []


@pytest.mark.slow
@pytest.mark.parametrize('protection', ['checks-of-json', 'look-at-files'])
def test_without_a_protection(run_row, protection):
    assert run_row('malformed-annotations', 40, protection).failures
