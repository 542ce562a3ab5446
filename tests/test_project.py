"""The files around the code agree with it: metafile, citation, changelog, CI, pre-commit."""

import re

import pytest
import yaml
from mmengine.config import Config

import mmbanet

from .conftest import CONFIGS, ROOT


def read(name: str) -> dict:
    return yaml.safe_load((ROOT / name).read_text())


@pytest.fixture(scope='module')
def pins():
    lines = (ROOT / 'constraints.txt').read_text().splitlines()
    return dict(re.match(r'([\w.-]+)==([^;]+)', line).groups() for line in lines if '==' in line)


def test_metafiles_name_models_that_there_are():
    for name in read('model-index.yml')['Import']:
        index = read(name)
        (collection,) = index['Collections']
        assert (ROOT / collection['README']).is_file()
        assert (ROOT / collection['Code']['URL']).is_file()
        assert collection['Code']['Version'] == f'v{mmbanet.__version__}'
        for model in index['Models']:
            assert model['In Collection'] == collection['Name']
            cfg = Config.fromfile(ROOT / model['Config'])
            assert model['Config'].endswith(f'/{model["Name"]}.py')
            assert model['Metadata']['Iterations'] == cfg.train_cfg.max_iters


def test_every_trained_config_of_coco_is_in_the_metafile():
    models = read('configs/banet/metafile.yml')['Models']
    trained = {path.stem for path in (CONFIGS / 'banet').glob('*_coco.py')}
    assert {model['Name'] for model in models} == trained


def test_the_version_is_said_once_more_in_citation_and_changelog():
    assert read('CITATION.cff')['version'] == mmbanet.__version__
    versions = re.findall(r'^## (\S+)', (ROOT / 'CHANGELOG.md').read_text(), re.M)
    assert versions[0] == mmbanet.__version__


def test_ci_runs_what_make_has_on_the_pythons_that_are_promised():
    (job,) = read('.github/workflows/ci.yml')['jobs'].values()
    matrix = job['strategy']['matrix']
    named = re.findall(r'Python :: (3\.\d+)', (ROOT / 'pyproject.toml').read_text())
    assert matrix['python'] == named
    targets = {*matrix['target'], *(extra['target'] for extra in matrix['include'])}
    makefile = (ROOT / 'Makefile').read_text()
    assert targets <= set(re.findall(r'^(\w+): .*## ', makefile, re.M))
    assert targets >= {'test', 'lint', 'docs', 'wheel'}


def test_issue_templates_are_forms():
    for path in (ROOT / '.github' / 'ISSUE_TEMPLATE').glob('*.yml'):
        form = read(str(path))
        assert {'name', 'description', 'body'} <= form.keys(), path.name
        ids = [item['id'] for item in form['body']]
        assert len(ids) == len(set(ids)), path.name
    coco = (ROOT / 'docs' / 'coco.md').read_text()
    (title,) = re.findall(r'template "(.*?)"', coco)
    assert title in {read(str(path))['name'] for path in ROOT.glob('.github/ISSUE_TEMPLATE/*.yml')}


def test_pre_commit_formats_with_the_pinned_versions(pins):
    repos = {repo['repo']: repo['rev'] for repo in read('.pre-commit-config.yaml')['repos']}
    for name in ('ruff', 'clang-format'):
        (rev,) = (rev for repo, rev in repos.items() if name in repo)
        assert rev == f'v{pins[name]}'
