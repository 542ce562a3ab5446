"""How a tool ends: real signals to real processes that run small tools."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from ..conftest import ROOT

HEAD = """
from mmbanet.cli import run_tool, tool

tool.PATIENCE = 0.2
if __name__ == '__main__':
    run_tool(__file__, 'start it again')

import multiprocessing, os, signal, sys

def idle():
    while True:  # not by pause, which would sleep through a signal that came just before it
        signal.sigtimedwait([], 0.05)

def wait():
    print('ready', flush=True, file=sys.__stdout__)
    idle()
"""
LINE = 'small.py: interrupted; start it again\n'


@pytest.fixture
def start(tmp_path) -> Callable[..., subprocess.Popen]:
    """Starts a tool in a process group of its own and waits for its first line."""
    processes = []

    def start(body: str, **options) -> subprocess.Popen:
        path = tmp_path / 'small.py'
        path.write_text(HEAD + body)
        process = subprocess.Popen(
            [sys.executable, str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, 'PYTHONPATH': str(ROOT), 'PYTHONUNBUFFERED': ''},
            **options,
        )
        processes.append(process)
        assert process.stdout.readline() == 'ready\n'
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def interrupted(process: subprocess.Popen) -> tuple[int, str, str]:
    """Ctrl-C in a terminal: the whole group gets it. Status, output, errors."""
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.mark.parametrize(
    'body',
    {
        'main': 'main = wait',
        'imports': 'wait()',
        'swallowed': """
def main():
    try:
        wait()
    except BaseException:
        pass
    wait()
""",
        'swallowed, then done': """
def main():
    try:
        wait()
    except BaseException:
        pass
""",
        'turned into something else': """
def main():
    try:
        wait()
    except BaseException:
        raise RuntimeError('a worker is gone')
""",
        'in a destructor': """
class Waits:
    def __del__(self):
        wait()

def main():
    waits = Waits()
    del waits
    wait()
""",
        'with a message at the end': """
import atexit
atexit.register(print, 'bye')

def main():
    try:
        wait()
    finally:
        print('tidied up', file=sys.stderr)
""",
        'with workers': """
def work(pipe):
    pipe.send(1)
    idle()

def main():
    here, there = multiprocessing.Pipe()
    workers = [multiprocessing.Process(target=work, args=(there,)) for _ in range(2)]
    for worker in workers:
        worker.start()
        here.recv()
    wait()
""",
    }.items(),
    ids=lambda item: item[0],
)
def test_ctrl_c_gives_one_line(start, body):
    assert interrupted(start(body[1])) == (130, '', LINE)


def test_what_was_printed_before_is_kept(start):
    body = """
def main():
    print('in the buffer', end='')
    os.write(1, b'ready\\n')
    idle()
"""
    assert interrupted(start(body)) == (130, 'in the buffer', LINE)


def test_a_signal_to_the_process_alone_ends_its_workers(start):
    body = """
def main():
    multiprocessing.Process(target=idle).start()
    wait()
"""
    process = start(body)
    process.send_signal(signal.SIGINT)
    # Ends only when the worker, which has the same pipes, has ended, too.
    assert process.communicate(timeout=60) == ('', LINE)
    assert process.returncode == 130


def test_a_tool_tidies_up(start, tmp_path):
    body = f"""
def main():
    try:
        wait()
    finally:
        open({str(tmp_path / 'tidy')!r}, 'w').close()
"""
    assert interrupted(start(body))[0] == 130
    assert (tmp_path / 'tidy').exists()


def test_one_rank_speaks_for_all(start, monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '1')
    assert interrupted(start('main = wait')) == (130, '', '')


def test_background_jobs_stay_deaf(start):
    body = 'def main():\n    print("ready", flush=True), sys.stdin.readline(), print("done")'
    ignored = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = start(body, stdin=subprocess.PIPE)
    finally:
        signal.signal(signal.SIGINT, ignored)
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate('\n', timeout=60) == ('done\n', '')
    assert process.returncode == 0


def test_success_runs_main_once_and_gives_the_handler_back(tmp_path, monkeypatch, capsys):
    (tmp_path / 'twice.py').write_text('def main():\n    print("main")')
    monkeypatch.setattr(sys, 'argv', ['twice.py'])
    from mmbanet.cli import run_tool

    before = signal.getsignal(signal.SIGINT)
    run_tool(str(tmp_path / 'twice.py'), '')
    assert capsys.readouterr().out == 'main\n'
    assert signal.getsignal(signal.SIGINT) is before


def test_the_package_that_starts_tools_imports_nothing_heavy():
    code = 'import sys, mmbanet.cli; print({"torch", "numpy", "mmengine"} & set(sys.modules))'
    result = subprocess.run(
        [sys.executable, '-c', code],
        capture_output=True,
        text=True,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
    )
    assert result.stdout == 'set()\n'
