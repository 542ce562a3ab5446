"""The command of the table: rows, their figures and the page."""

import json
import re
import sys
import time
from contextlib import contextmanager

import pytest
from reliability import __main__ as command
from reliability import children
from reliability.row import Row, chosen, count, number_of
from reliability.table import END, TABLES, promises, takeouts

from ..conftest import ROOT


@contextmanager
def without_luck():
    """Takes the protection of the row below out."""
    global lucky
    lucky, before = False, lucky
    yield
    lucky = before


lucky = True


def run(cases, folder):
    assert not list(folder.iterdir())
    return count(
        (f'case {i}', lambda i=i: None if lucky or i else 'bad luck') for i in range(cases)
    )


ROWS = {
    'first': Row('first', 'goes well', 3, run, {'luck': without_luck}),
    'second': Row('second', 'goes well, too', 2, lambda n, _: count([('it', lambda: 1 // 0)] * n)),
}


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    page = tmp_path / 'page.md'
    empty = [f'{start}\n\n{END}\n' for start in TABLES]
    page.write_text(f'before\n{"between".join(empty)}after\n')
    monkeypatch.setattr(command, 'all_rows', lambda: ROWS)
    monkeypatch.setattr(command, 'DOCS', page)

    def call(*arguments):
        monkeypatch.setattr(sys, 'argv', ['reliability', *map(str, arguments)])
        return command.main(), capsys.readouterr().out

    call.page = page
    return call


def test_a_line_a_row_and_what_failed(call, tmp_path):
    status, out = call('--out', tmp_path / 'out.json')
    assert status == 1
    assert re.search(r'^first +3 of 3 +0 s$', out, re.M)
    assert re.search(r'^second +0 of 2 +0 s\n  it: ZeroDivisionError', out, re.M)
    assert json.loads((tmp_path / 'out.json').read_text())['`second`']['cases'] == 2


def test_a_protection_can_be_taken_out(call):
    assert call('first', '--cases', 2) == (0, call('first', '--cases', 2)[1])
    status, out = call('--without', 'luck')
    assert status == 1
    assert re.search(r'^first without luck +2 of 3 +0 s$', out, re.M)
    assert 'second' not in out
    assert lucky
    assert re.sub(r'\d+ s$', '', call('--without', 'each')[1]) == re.sub(r'\d+ s$', '', out)


def test_the_page_keeps_what_is_not_run_again(call):
    call('first', '--docs')
    assert '| `second` | goes well, too | not measured yet |' in call.page.read_text()
    call('second', '--docs')
    text = call.page.read_text()
    assert '| `first` | goes well | 3 of 3 |' in text
    assert '| `second` | goes well, too | 0 of 2 |' in text
    out_of = '| `first` without `luck` | Takes the protection of the row below out |'
    assert f'{out_of} not measured yet |' in text
    call('--without', 'each', '--docs')
    text = call.page.read_text()
    assert f'{out_of} 2 of 3 |' in text
    assert '| `first` | goes well | 3 of 3 |' in text
    assert 'between' in text
    assert text.startswith('before\n')
    assert text.endswith('\nafter\n')


@pytest.mark.parametrize(
    'arguments', [['third'], ['second', '--without', 'luck'], ['--docs', '--cases', '1']]
)
def test_mistakes(call, arguments):
    with pytest.raises(SystemExit):
        call(*arguments)


def test_the_page_has_all_rows():
    text = (ROOT / 'docs' / 'reliability.md').read_text()
    for contents in (promises, takeouts):
        for name, content in contents(command.all_rows()).items():
            assert f'| {name} | {content} |' in text


def test_cases_are_chosen_by_number_or_name():
    named = [(name, None) for name in ('an empty file', 'an empty folder', 'a folder', 'a link')]
    assert chosen(named, 2) == [named[0], named[2]]
    assert chosen(named, 5) == named
    assert chosen(named, 'folder') == named[1:3]
    with pytest.raises(SystemExit, match=r"no case has 'pipe' in its name; there are: an empty f"):
        chosen(named, 'pipe')
    assert number_of(3) == 3
    with pytest.raises(SystemExit, match="no names such as 'pipe'"):
        number_of('pipe')


def work(text, status):
    print(text, children._taken_out, flush=True)
    time.sleep(60 if status is None else 0)
    sys.exit(status)


def test_children(tmp_path):
    child = children.Child(work, 'ready', 3, folder=tmp_path / 'a')
    assert child.wait() == 3
    assert child.last_line() == 'ready []'
    child = children.Child(work, 'ready', 'tool: bad file', folder=tmp_path / 'b')
    assert children.one_line(child.wait(), child, 'tool', 'file') is None
    assert 'does not say' in children.one_line(1, child, 'tool', 'folder')
    child = children.Child(work, 'ready', None, folder=tmp_path / 'c')
    assert child.wait_for('ready')
    child.kill()
    assert child.wait() == -9
