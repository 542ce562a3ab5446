"""Files that were made to do harm."""

import pytest
from reliability.children import taken_out
from reliability.hostile_files import ROW, Files
from reliability.malformed_annotations import JPG, PNG
from reliability.row import count

# Those that need no process of their own.
CASES = {
    'array': Files.array,
    'yaml': Files.yaml_tag,
    'markup': Files.markup,
    'planted files': Files.planted_files,
    'bomb of a map': Files.png_bomb,
    'bomb of a photograph': Files.image_bomb,
    **{
        f'{how} {place} {name}': lambda files, given=(place, name, how): files.elsewhere(*given)
        for place, name in (('training', JPG), ('training', PNG), ('metrics', PNG))
        for how in ('link', 'absolute', 'parent')
    },
}


@pytest.mark.parametrize('name', CASES)
def test_does_no_harm(tmp_path, name):
    assert CASES[name](Files(tmp_path)) is None


@pytest.mark.parametrize(
    ('protection', 'name'),
    [
        ('paths', f'link training {JPG}'),
        ('paths', f'parent metrics {PNG}'),
        ('headers', 'bomb of a map'),
        ('headers', 'bomb of a photograph'),
        ('plain-yaml', 'yaml'),
    ],
)
def test_without_a_protection(tmp_path, protection, name):
    with taken_out(ROW.protections[protection]):
        outcome = count([(name, lambda: CASES[name](Files(tmp_path)))])
    assert len(outcome.failures) == 1


def test_short_form(run_row):
    assert run_row('hostile-files', 4).failures == []


@pytest.mark.slow
def test_without_weights_only(run_row):
    assert run_row('hostile-files', 'pickle, test', 'weights-only').failures
