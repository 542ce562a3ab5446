"""Malformed panoptic sets: refused by name, or mended and said so, in training and evaluation."""

import sys

import numpy as np
import pytest

from mmbanet.datasets import annotation_files

from ..conftest import TOOLS

sys.path.append(str(TOOLS))

from reliability.malformed_annotations import (
    MENDED,
    REFUSED,
    REFUSED_IMAGES,
    REFUSED_INSTANCES,
    SAID,
    changed,
    edit,
    encode,
    heard,
    intact,
    outcome,
    problem,
    segment,
    text,
    write_broken,
)

KINDS = REFUSED | REFUSED_IMAGES | REFUSED_INSTANCES


@pytest.mark.parametrize('name', KINDS)
def test_refused_by_name(tmp_path, name):
    problems = [problem(KINDS[name], tmp_path / 'set', place) for place in KINDS[name].places]
    assert problems == [None] * len(problems)


@pytest.mark.parametrize('name', MENDED)
@pytest.mark.parametrize('place', ['training', 'metrics'])
def test_mended_to_the_intact_set_and_said(tmp_path, name, place):
    assert changed(tmp_path / 'set', place, MENDED[name], is_mended=True) is None


@pytest.mark.parametrize('name', SAID)
@pytest.mark.parametrize('place', ['training', 'metrics'])
def test_what_changes_the_outcome_is_said(tmp_path, name, place):
    assert changed(tmp_path / 'set', place, SAID[name], is_mended=False) is None


def test_a_box_that_the_png_contradicts(tmp_path):
    expected, _ = outcome(tmp_path / 'set', 'training', intact)
    found, said = outcome(tmp_path / 'set', 'training', edit(segment, bbox=[0, 0, 5, 5]))
    assert found == expected
    assert any('1.png' in message for message in said)


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16'])
def test_encodings_that_json_allowed(tmp_path, encoding):
    expected, _ = outcome(tmp_path / 'set', 'training', intact)
    found, said = outcome(tmp_path / 'set', 'training', text(lambda s: s.encode(encoding)))
    assert found == expected
    assert not said


def test_a_large_png_is_not_decoded(tmp_path, monkeypatch):
    root = write_broken(tmp_path / 'set', encode(lambda ids: np.zeros((900, 900, 3), np.uint8)))
    monkeypatch.setattr(annotation_files.cv2, 'imdecode', lambda *_: pytest.fail('decoded'))
    png, size = str(root / 'annotations/panoptic_train/1.png'), (24, 32)
    with heard(), pytest.raises(ValueError, match=r'1\.png: .*900x900 pixels .* says 24x32'):
        annotation_files.read_segment_ids(png, size, 'image 1')
