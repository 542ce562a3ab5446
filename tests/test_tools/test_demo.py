"""The demo from data to pictures, with two iterations on a few small scenes."""

import re

import cv2
import pytest

from .test_train_and_test import TWO_ITERATIONS


def test_help_says_where_it_works(call_tool, capsys):
    with pytest.raises(SystemExit):
        call_tool('demo.py', '--help')
    assert '(default: work_dirs/demo)' in ' '.join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_prints_both_rows_and_draws(call_tool, tmp_path, capsys):
    data, work = tmp_path / 'scenes', tmp_path / 'work'
    command = ['demo.py', '--images', 2, 5, '--data-root', data, '--work-dir', work]
    call_tool(*command, '--cfg-options', *TWO_ITERATIONS)
    printed = capsys.readouterr().out
    number = r'\s+\d+\.\d'
    for fusion in ('heuristic', 'occlusion-aware'):
        row = rf'{fusion}(?:{number}){{9}}\s+(\d+\.\d|nan)'  # nan: no occluded pair was found
        assert re.search(row, printed), printed
    for number in (1, 2):
        picture = cv2.imread(str(work / f'panoptic_{number}.png'))
        assert picture is not None
        assert picture.shape[1] > 4 * 256
