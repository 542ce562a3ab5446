"""What `make quick` runs: the changed packages' tests, with few sets of parameters."""

import re
import subprocess
import sys

import changed_tests
import pytest

from .conftest import ROOT


@pytest.mark.parametrize(
    ('changed', 'tests'),
    [
        ('mmbanet/models/fusion/head.py', 'tests/test_models/test_fusion'),
        ('mmbanet/models/fusion/order/mean_color.py', 'tests/test_models/test_fusion/test_order'),
        ('mmbanet/models/deform_conv.py', 'tests/test_models/test_deform_conv.py'),
        ('mmbanet/visualization/panoptic.py', 'tests/test_visualization.py'),
        ('mmbanet/scenes/drawn/layout.py', 'tests/test_scenes'),
        ('mmbanet/registry.py', 'tests'),
        ('mmbanet/models/fusion/deleted.py', 'tests/test_models/test_fusion'),
        ('ops/cpu/simd.h', 'tests/test_ops'),
        ('tools/benchmarks/order.py', 'tests/test_tools'),
        ('configs/banet/new.py', 'tests/test_configs.py'),
        ('tests/test_ops/samples.py', 'tests/test_ops'),
        ('tests/test_configs.py', 'tests/test_configs.py'),
        ('tests/test_deleted.py', None),
        ('LICENSE', None),
        ('README.md', 'tests/test_docs.py'),
        ('docs/coco.md', 'tests/test_docs.py'),
        ('docs/architecture.md', 'tests/test_architecture.py'),
        ('.github/workflows/ci.yml', 'tests/test_project.py'),
        ('CITATION.cff', 'tests/test_project.py'),
    ],
)
def test_tests_of_a_file(changed, tests):
    assert changed_tests.tests_of(changed) == tests


def test_changes_of_a_branch_and_of_the_working_tree(tmp_path, monkeypatch, capsys):
    def git(*arguments):
        identity = ('-c', 'user.name=a', '-c', 'user.email=a@b')
        subprocess.run(['git', *identity, *arguments], cwd=tmp_path, check=True)

    places = ('mmbanet/ops', 'mmbanet/models', 'tests/test_ops', 'tests/test_models', 'configs')
    for place in (*places, 'tests/test_models/test_roi', 'mmbanet/models/roi'):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / 'kept.py').touch()
    git('init', '-q', '-b', 'main')
    git('add', '.')
    git('commit', '-qm', 'first')
    git('switch', '-qc', 'branch')
    (tmp_path / 'mmbanet/ops/kept.py').write_text('changed = 1')
    git('commit', '-qam', 'second')
    (tmp_path / 'mmbanet/models/roi/new.py').touch()
    (tmp_path / 'mmbanet/models/kept.py').unlink()
    monkeypatch.setattr(changed_tests, 'ROOT', tmp_path)

    changed_tests.main()

    # The tests of models hold those of models/roi.
    assert capsys.readouterr().out.split() == ['tests/test_models', 'tests/test_ops']


def test_sets_are_the_first_and_the_last_that_can_run(tmp_path):
    (tmp_path / 'test_it.py').write_text(
        'import pytest\n'
        'skipped = pytest.param(9, marks=pytest.mark.skipif(True, reason="no GPU"))\n'
        '@pytest.mark.parametrize("x", [0, 1, 2, 3, skipped])\n'
        'def test_many(x): assert x in (0, 3)\n'
        'def test_one(): pass\n'
    )
    command = (sys.executable, '-m', 'pytest', '-p', 'tests.conftest', '--sets', '2', tmp_path)
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    assert re.search('3 passed, 3 deselected', result.stdout), result.stdout
