"""The fuzz of the operators under sanitizers runs clean, and finds the defects that it is shown."""

import re
import subprocess
import sys

import fuzz
import pytest

from .conftest import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module', autouse=True)
def _sanitizers():
    try:
        fuzz.check_sanitizers()
    except fuzz.SetupError as error:
        pytest.skip(str(error))


def run_fuzz(*arguments: str) -> subprocess.CompletedProcess:
    """Runs what ``make fuzz`` runs; it compiles only what has changed."""
    script = ROOT / 'tools' / 'dev' / 'fuzz.py'
    return subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True)


def test_thousand_sets():
    result = run_fuzz('--sets', '1000')

    assert result.returncode == 0, result.stderr
    line = result.stdout.splitlines()[-1]
    found = re.match(
        r'fuzz: 1,000 sets, 0 reports \((\d+) with a bad index, (\d+) with NaN or infinite '
        r'features, (\d+) channels-last; ',
        line,
    )
    assert found, line
    assert all(int(count) > 50 for count in found.groups()), line


@pytest.mark.parametrize(
    ('defect', 'report'),
    [
        ('input-too-short', r'AddressSanitizer: heap-buffer-overflow(.|\n)*roi_inlay_cpu\.cpp'),
        ('misaligned-input', r'runtime error: .*misaligned(.|\n)*roi_inlay_cpu\.cpp'),
        ('wrong-output', r'roi_inlay is in \[-?nan, -?nan\], expected'),
    ],
)
def test_finds_a_defect(defect, report):
    result = run_fuzz('--sets', '1', '--defect', defect)

    assert result.returncode == 1
    assert re.search(report, result.stderr), result.stderr
    assert 'fuzz: in the set of seed 0' in result.stderr
    assert '0 reports' not in result.stdout
