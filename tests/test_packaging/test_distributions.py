"""The source distribution and the wheel hold what they need, and the wheel runs from any folder."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from .conftest import ROOT, call

pytestmark = pytest.mark.slow

IMPORT_AND_CALL = """
import json, sys
import torch
import mmbanet
from mmbanet.ops import roi_inlay
light = not {'mmdet', 'mmcv', 'mmengine'} & set(sys.modules)
rois = torch.tensor([[0, 0.5, 0.5, 4.5, 4.5]])
out = roi_inlay(torch.full((1, 1, 2, 2), 3.0), rois, 1, (6, 6))
print(json.dumps([mmbanet.__file__, light, out.max().item()]))
"""

LOAD_CONFIGS = """
import json, sys
from pathlib import Path
from mmengine.config import Config
import mmbanet
folder = Path(mmbanet.__file__).parent / '.mim' / 'configs'
paths = sorted(path for path in folder.rglob('*.py') if '_base_' not in path.parts)
print(json.dumps({path.stem: Config.fromfile(path).model.type for path in paths}))
"""


def sources(*folders: str) -> set[str]:
    """The text sources of the repository's folders, relative to it."""
    kinds = {'.py', '.cpp', '.cu', '.h', '.hpp', '.cuh', '.html'}
    found = (path for folder in folders for path in (ROOT / folder).rglob('*'))
    return {str(path.relative_to(ROOT)) for path in found if path.suffix in kinds}


def run_installed(installed: Path, folder: Path, code: str) -> str:
    """Runs Python code in ``folder`` with the wheel's contents; returns the last line printed."""
    output = call(sys.executable, '-c', code, cwd=folder, PYTHONPATH=str(installed))
    return output.splitlines()[-1]


def test_sdist_holds_everything(sdist):
    packed = {str(path.relative_to(sdist)) for path in sdist.rglob('*') if path.is_file()}

    assert sources('mmbanet', 'ops', 'configs', 'tools', 'tests', 'examples') <= packed
    assert all((sdist / path).read_bytes() == (ROOT / path).read_bytes() for path in sources('ops'))
    assert {'setup.py', 'pyproject.toml', 'LICENSE', 'Makefile', 'constraints.txt'} <= packed
    assert {'CITATION.cff', 'CHANGELOG.md', 'CONTRIBUTING.md', 'model-index.yml'} <= packed
    assert {'docs/index.md', 'docs/conf.py', 'docs/demo.png'} <= packed
    assert {'.pre-commit-config.yaml', '.github/workflows/ci.yml'} <= packed
    assert not {path for path in packed if path.startswith('docs/_build')}
    assert not {path for path in packed if path.endswith(('.so', '.pyc'))}


def test_wheel_holds_package_configs_tools_and_operator(wheel):
    packed = set(zipfile.ZipFile(wheel).namelist())
    tools = {path for path in sources('tools') if not path.startswith('tools/dev/')}

    assert sources('mmbanet') <= packed
    assert {f'mmbanet/.mim/{path}' for path in sources('configs') | tools} <= packed
    assert {'mmbanet/py.typed', 'mmbanet/.mim/model-index.yml'} <= packed
    assert 'mmbanet/.mim/configs/banet/metafile.yml' in packed
    assert [path for path in packed if path.startswith('mmbanet/') and path.endswith('.so')]
    assert not {path for path in packed if path.startswith(('tests/', 'tools/', 'configs/'))}


def test_wheel_links_every_source_of_the_cpu(wheel):
    linked = wheel.with_name('linked').read_text().split()
    objects = {Path(path).stem for path in linked if path.endswith('.o')}

    assert objects == {
        path.stem for path in (ROOT / 'ops').rglob('*.cpp') if path.parent.name != 'cuda'
    }


def test_wheel_states_licence_and_extras(wheel):
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith('.dist-info/METADATA'))
    metadata = archive.read(name).decode()

    assert 'License-Expression: Apache-2.0' in metadata
    assert 'Requires-Dist: torch' in metadata
    for extra in ('onedl', 'openmmlab', 'test'):
        assert f'Provides-Extra: {extra}' in metadata
    assert name.replace('METADATA', 'licenses/LICENSE') in archive.namelist()


def test_installed_wheel_runs_from_another_folder(installed, tmp_path):
    path, light, largest = json.loads(run_installed(installed, tmp_path, IMPORT_AND_CALL))

    assert Path(path).is_relative_to(installed)
    assert light, 'import mmbanet.ops must not import mmdet, mmcv or mmengine'
    assert largest == pytest.approx(3.0)


def test_installed_wheel_loads_every_config(installed, tmp_path):
    models = json.loads(run_installed(installed, tmp_path, LOAD_CONFIGS))
    expected = (path for path in (ROOT / 'configs').rglob('*.py') if '_base_' not in path.parts)

    assert set(models) == {path.stem for path in expected}
    assert models['banet_r50_fpn_1x_coco'] == 'mmbanet.BANet'


def test_installed_tools_start_from_another_folder(installed, tmp_path):
    tool = installed / 'mmbanet' / '.mim' / 'tools' / 'train.py'
    output = call(sys.executable, tool, '--help', cwd=tmp_path, PYTHONPATH=str(installed))
    assert '--work-dir' in output


def test_build_without_torch_says_how_to_build(sdist, tmp_path):
    """What pip's isolated build environment gives: setuptools, but no torch."""
    hide = "import sys; sys.modules['torch'] = None; sys.argv = ['setup.py', 'build_ext']; "
    code = f"{hide} import runpy; runpy.run_path('setup.py')"
    result = subprocess.run([sys.executable, '-c', code], cwd=sdist, capture_output=True, text=True)

    assert result.returncode != 0
    assert '--no-build-isolation' in result.stderr
