"""The set-up skips what is done, redoes what changed, and goes on after an interruption."""

import dataclasses
import re
import subprocess
import sys
import sysconfig
import time
from types import SimpleNamespace

import bootstrap
import console
import pytest
from bootstrap import Bootstrap
from console import SetupError, StepLine

CONSTRAINTS = """# pins
torch==2.13.0
numpy==1.26.4; python_version >= "3.11"
pip==26.3
setuptools==80.10.2
wheel==0.48.0
packaging==26.3
ninja==1.13.2
onedl-mmcv==2.3.6
"""
ALL_STEPS = ['venv', 'tools', 'torch', 'deps', 'mmcv', 'mmbanet']


class Repository:
    """A small repository whose set-up records the steps that it does instead of doing them."""

    def __init__(self, root):
        self.root = root
        self.site = root / '.venv' / 'lib' / 'python3.11' / 'site-packages'
        self.library = root / 'mmbanet' / '_ext.so'
        for name in ('ops/roi_inlay.cpp', 'setup.py', 'pyproject.toml', 'mmbanet/__init__.py'):
            root.joinpath(name).parent.mkdir(exist_ok=True)
            root.joinpath(name).write_text(name)
        root.joinpath('constraints.txt').write_text(CONSTRAINTS)

    def set_up(self, interrupt_at=None):
        """Runs the set-up; returns the names of the steps that it started."""
        started = []
        job = Bootstrap(self.root, self.root / '.venv')

        def act(name):
            started.append(name)
            if name == interrupt_at:
                raise KeyboardInterrupt
            if name == 'torch':
                self.install('torch-2.13.0')
            if name == 'mmbanet':
                self.library.touch()

        job.steps = tuple(
            dataclasses.replace(step, action=lambda line, name=step.name: act(name))
            for step in job.steps
        )
        try:
            job.run()
        except KeyboardInterrupt:
            started.append('interrupted')
        return started

    def install(self, name, complete=True):
        """Puts a package's metadata into the environment."""
        metadata = self.site / f'{name}.dist-info'
        metadata.mkdir(parents=True, exist_ok=True)
        metadata.joinpath('METADATA').touch()
        if complete:
            metadata.joinpath('INSTALLER').write_text('pip')
        return metadata


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.setattr(bootstrap, 'check_machine', lambda root, torch_missing: 'c++')
    return Repository(tmp_path)


def test_second_run_skips_everything(repository, capsys):
    assert repository.set_up() == ALL_STEPS
    capsys.readouterr()
    assert repository.set_up() == []
    assert capsys.readouterr().out.splitlines() == [
        'already set up in .venv (make distclean removes it)'
    ]


def test_changed_operator_source_rebuilds_only_the_operator(repository):
    repository.set_up()
    repository.root.joinpath('ops', 'roi_inlay.cpp').write_text('changed')
    assert repository.set_up() == ['mmbanet']
    repository.root.joinpath('ops', 'new.cu').touch()
    assert repository.set_up() == ['mmbanet']


def test_removed_library_is_rebuilt(repository):
    repository.set_up()
    repository.library.unlink()
    assert repository.set_up() == ['mmbanet']


def test_changed_pin_redoes_what_depends_on_it(repository):
    repository.set_up()
    constraints = repository.root / 'constraints.txt'
    constraints.write_text(CONSTRAINTS.replace('onedl-mmcv==2.3.6', 'onedl-mmcv==2.3.7'))
    assert repository.set_up() == ['mmcv', 'mmbanet']
    constraints.write_text(CONSTRAINTS.replace('ninja==1.13.2', 'ninja==1.13.3'))
    assert repository.set_up() == ['tools', 'deps', 'mmcv', 'mmbanet']


def test_other_torch_rebuilds_both_libraries(repository):
    repository.set_up()
    (repository.site / 'torch-2.13.0.dist-info').rename(repository.site / 'torch-2.14.0.dist-info')
    assert repository.set_up() == ['mmcv', 'mmbanet']


@pytest.mark.parametrize('name', ALL_STEPS)
def test_interrupted_step_is_redone_and_finished_ones_are_not(repository, name):
    position = ALL_STEPS.index(name)
    assert repository.set_up(interrupt_at=name) == [*ALL_STEPS[: position + 1], 'interrupted']
    assert repository.set_up() == ALL_STEPS[position:]


def test_interrupted_redo_does_not_count_as_done(repository):
    """The stamp of the earlier, finished run must not survive."""
    repository.set_up()
    source = repository.root / 'ops' / 'roi_inlay.cpp'
    text = source.read_text()
    source.write_text('changed')
    assert repository.set_up(interrupt_at='mmbanet') == ['mmbanet', 'interrupted']
    source.write_text(text)
    assert repository.set_up() == ['mmbanet']


def test_half_installed_packages_are_forgotten(repository):
    torn = repository.install('numpy-1.26.4', complete=False)
    whole = repository.install('pillow-13.0.0')
    bootstrap.remove_torn_installs(repository.root / '.venv')
    assert not torn.exists()
    assert whole.exists()


def test_missing_pin(repository):
    repository.root.joinpath('constraints.txt').write_text('numpy==1.26.4\n')
    with pytest.raises(SetupError, match='no line torch==VERSION'):
        Bootstrap(repository.root, repository.root / '.venv').pin('torch')


def test_environment_of_another_python(repository, tmp_path):
    venv = tmp_path / '.venv'
    venv.mkdir()
    venv.joinpath('pyvenv.cfg').write_text('home = /usr/bin\nversion = 3.8.10\n')
    with pytest.raises(SetupError, match=r'made with Python 3\.8.*make distclean'):
        Bootstrap(tmp_path, venv)._make_venv(StepLine('venv'))


@pytest.mark.parametrize(
    ('settings', 'gpu', 'expected'),
    [
        ('', False, ['--extra-index-url', bootstrap.CPU_INDEX]),
        ('', True, []),
        ("global.index-url='https://mirror.example'", False, []),
        (":env:.find-links='/wheels'", False, []),
    ],
)
def test_index_of_torch(repository, monkeypatch, settings, gpu, expected):
    monkeypatch.setattr(bootstrap, 'has_nvidia_gpu', lambda: gpu)
    monkeypatch.setattr(bootstrap.sys, 'platform', 'linux')
    answer = SimpleNamespace(stdout=settings)
    monkeypatch.setattr(bootstrap.subprocess, 'run', lambda *args, **kwargs: answer)
    assert Bootstrap(repository.root, repository.root / '.venv')._torch_index() == expected


@pytest.mark.parametrize('flags', [None, '-O2 -march=native'])
def test_compilers_flags(repository, monkeypatch, flags):
    """CFLAGS replace Python's own: with -g0 alone mmcv would be compiled without optimisation."""
    if flags:
        monkeypatch.setenv('CFLAGS', flags)
    else:
        monkeypatch.delenv('CFLAGS', raising=False)
    calls = []
    monkeypatch.setattr(bootstrap, 'run', lambda *args: calls.append(args))
    job = Bootstrap(repository.root, repository.root / '.venv')
    job._pip('mmcv', StepLine('mmcv'), 'onedl-mmcv')

    command, log, _, env = calls[0]
    assert command[-1] == 'onedl-mmcv'
    assert log.name == 'mmcv.log'
    assert env['CFLAGS'] == f'{flags or sysconfig.get_config_var("CFLAGS")} -g0'
    assert '-O' in env['CFLAGS']


@pytest.mark.parametrize(
    ('error', 'code', 'message'),
    [
        (SetupError('no compiler'), 1, 'set-up stopped: no compiler'),
        (KeyboardInterrupt(), 130, 'set-up interrupted: run the same command again to go on'),
    ],
)
def test_exit_code_and_message(tmp_path, monkeypatch, capsys, error, code, message):
    monkeypatch.setattr(bootstrap.signal, 'signal', lambda *args: None)

    def fail(self):
        raise error

    monkeypatch.setattr(Bootstrap, 'run', fail)
    assert bootstrap.main(tmp_path) == code
    assert capsys.readouterr().err.strip() == message


@pytest.mark.parametrize(
    ('line', 'expected'),
    [
        ('  [41/78] c++ -MMD -MF /tmp/x.o -g0', '41/78 files'),
        ('Collecting numba==0.68.1 (from -r x)', 'downloading numba'),
        ('  Downloading numba-0.68.1-cp311.whl (3.9 MB)', 'downloading numba'),
        ('Progress 104857600 of 209715200', 'downloading, 100/200 MiB'),
        ('Progress 1024 of 209715', ''),
        ('  Building wheel for onedl-mmcv (pyproject.toml): started', 'building onedl-mmcv'),
        ('Installing collected packages: numpy', 'installing'),
        ('warning: something [-Wall]', ''),
    ],
)
def test_progress_of_a_line(line, expected):
    assert console.describe_line(line) == expected


def test_progress_lines_without_a_terminal(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(console, 'SECONDS_BETWEEN_LINES', 0.0)
    line = StepLine('[6/7] building')
    console.run([sys.executable, '-c', "print('[41/78] c++')"], tmp_path / 'log', line)
    line.tick()
    line.finish()

    output = capsys.readouterr().out
    assert '\r' not in output
    assert '[6/7] building ... 41/78 files, 0 s' in output
    assert output.splitlines()[-1] == '[6/7] building done, 0 s'


@pytest.mark.parametrize(
    ('output', 'remedy'),
    [
        ('OSError: [Errno 28] No space left on device', 'free some disk space'),
        ('c++: fatal error: Killed signal terminated program cc1plus', 'MAX_JOBS=1'),
        ('OSError: CUDA_HOME environment variable is not set.', 'CUDA_VISIBLE_DEVICES='),
        ('ERROR: No matching distribution found for torch==9', 'constraints.txt'),
        ('NewConnectionError: Temporary failure in name resolution', 'check the network'),
        ('error: something else', 'read the log'),
    ],
)
def test_failed_command_shows_last_lines_log_and_remedy(tmp_path, output, remedy):
    log = tmp_path / 'mmcv.log'
    code = f'import sys; print({output!r}); sys.exit(3)'
    with pytest.raises(SetupError) as caught:
        console.run([sys.executable, '-c', code], log, StepLine('step'))

    assert 'exit code 3' in str(caught.value)
    for part in (output, str(log), remedy):
        assert part in str(caught.value)


def test_interruption_ends_the_commands_children(tmp_path, monkeypatch):
    log = tmp_path / 'log'

    def interrupt(self):
        if log.exists() and log.read_text().strip():
            raise KeyboardInterrupt

    monkeypatch.setattr(StepLine, 'tick', interrupt)
    with pytest.raises(KeyboardInterrupt):
        console.run(['sh', '-c', 'sleep 600 & echo $!; wait'], log, StepLine('step'))

    child = re.match(r'\d+', log.read_text())[0]
    state = ['ps', '-o', 'stat=', '-p', child]
    for _ in range(50):
        if subprocess.run(state, capture_output=True, text=True).stdout.strip() in ('', 'Z'):
            return
        time.sleep(0.1)
    pytest.fail('the compiler would have gone on')
