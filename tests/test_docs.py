"""README and docs say what is so: links, commands, configs, Python, figures; Sphinx builds them."""

import argparse
import ast
import importlib.util
import json
import re
import shlex
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import mean, stdev

import cv2
import mmdet
import numpy as np
import pytest
import torch
from markdown_it import MarkdownIt
from markdown_it.token import Token
from mmengine.config import Config
from mmengine.registry import MODELS, Registry
from torch.distributed.run import get_args_parser

import mmbanet
from mmbanet import (
    apis,
    datasets,
    engine,
    evaluation,
    models,
    ops,
    registry,
    scenes,
    structures,
    visualization,
)
from mmbanet.cli.main import COMMANDS
from mmbanet.datasets.mask_overlap import measure_overlap
from mmbanet.models import fusion
from mmbanet.scenes import METAINFO

from .conftest import CONFIGS, ROOT

DOCS = sorted((ROOT / 'docs').glob('*.md'))
PAGES = [*sorted(ROOT.glob('*.md')), *DOCS, *sorted(ROOT.glob('examples/*/*.md'))]
NAMES = [str(path.relative_to(ROOT)) for path in PAGES]
# Files that are named in text and commands.
FILE = re.compile(r'\b(?:configs|tools|docs|examples|mmbanet|ops|tests)/[\w/.-]+\.\w+\b')
# Commands of ours, and what may stand before them.
STARTS = re.compile(r'([A-Z]+=\S+ )?(python (-u )?tools/|srun .*tools/|torchrun |mmbanet |make )')
TOOLS = sorted(
    path
    for folder in ('tools', 'tools/benchmarks')
    for path in (ROOT / folder).glob('*.py')
    if 'run_tool(' in path.read_text()
)
RESULTS = ROOT / 'tools' / 'benchmarks' / 'results'


def tokens(text: str) -> Iterator[Token]:
    """All tokens of a page, those within lines too."""
    for token in MarkdownIt('commonmark').enable('table').parse(text):
        yield token
        yield from token.children or ()


def slugs(path: Path) -> set[str]:
    """The anchors that GitHub and MyST give to a page's headings."""
    parsed = MarkdownIt('commonmark').parse(path.read_text())
    titles = [body.content for head, body in pairwise(parsed) if head.type == 'heading_open']
    return {re.sub(r'[^\w\- ]', '', title.lower()).replace(' ', '-') for title in titles}


def fences(language: str) -> list:
    """A test's parameters: page and text of every code block in a language."""
    return [
        pytest.param(token.content, id=f'{name}:{token.map[0] + 1}')
        for name in NAMES
        for token in tokens((ROOT / name).read_text())
        if token.type == 'fence' and token.info == language
    ]


def commands() -> list:
    """A test's parameters: every command of the repository in code blocks, and those in lines."""
    found = {}
    for name in NAMES:
        for token in tokens((ROOT / name).read_text()):
            if token.type == 'fence' and token.info == 'bash':
                lines = token.content.replace('\\\n', ' ').splitlines()
            elif token.type == 'code_inline':
                lines = [token.content]
            else:
                continue
            for line in lines:
                if STARTS.match(line) and '$(' not in line:
                    found.setdefault(line, pytest.param(line, id=f'{name}: {line[:70]}'))
    return list(found.values())


@pytest.mark.parametrize('name', NAMES)
def test_links_lead_to_files_and_headings(name):
    page = ROOT / name
    broken = []
    for token in tokens(page.read_text()):
        link = token.attrGet('href') or token.attrGet('src')
        if link is None or '://' in link:
            continue
        path, _, anchor = link.partition('#')
        target = page.parent / path if path else page
        if not target.is_file() or (anchor and anchor not in slugs(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize('name', NAMES)
def test_files_that_are_named_exist(name):
    named = set(FILE.findall((ROOT / name).read_text()))
    # In capitals: what is to be written.
    named = {path for path in named if not re.search('[A-Z]{4}', Path(path).stem)}
    folders = (ROOT, ROOT / 'mmbanet', Path(mmdet.__file__).parent / '.mim')
    lost = [path for path in named if not any((folder / path).exists() for folder in folders)]
    assert lost == []


def test_every_page_is_in_the_table_of_contents():
    index = (ROOT / 'docs' / 'index.md').read_text()
    listed = [
        line
        for block in re.findall(r'```\{toctree\}\n(.*?)```', index, re.S)
        for line in block.splitlines()
        if line and not line.startswith(':')
    ]
    pages = {path.stem for path in DOCS} - {'index'}
    missing = sorted(pages - set(listed))
    assert missing == [], f'docs/index.md: put {missing} into a toctree'
    assert sorted(listed) == sorted(pages), 'docs/index.md: a toctree names a page twice or none'


class Parsed(Exception):
    """What a program made of its arguments; raised in place of running it."""


@pytest.fixture(scope='module')
def programs():
    """The modules that have been imported: each is once."""
    before = list(sys.path)
    sys.path[:0] = [str(ROOT / 'tools' / folder) for folder in ('', 'benchmarks', 'dev')]
    yield {}
    sys.path[:] = before


@pytest.fixture
def load(programs):
    """Imports a program, once."""

    def load(path: Path):
        if path not in programs:
            spec = importlib.util.spec_from_file_location(f'docs_{path.stem}', path)
            programs[path] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(programs[path])
        return programs[path]

    return load


@pytest.fixture
def parse(load, monkeypatch, tmp_path):
    """Has a program parse arguments; fails the test with its message where it refuses them."""
    real = argparse.ArgumentParser.parse_args

    def stop(parser, args=None, namespace=None):
        raise Parsed(real(parser, args, namespace))

    def parse(path: Path, arguments: list[str]) -> argparse.Namespace:
        program = load(path)
        monkeypatch.setattr(sys, 'argv', [path.name, *arguments])
        monkeypatch.setattr(argparse.ArgumentParser, 'parse_args', stop)
        monkeypatch.chdir(tmp_path)  # what is to be written may get its folder at once
        with pytest.raises(Parsed) as parsed:
            program.main()
        return parsed.value.args[0]

    return parse


def split_command(line: str) -> tuple[str, list[str]]:
    """Program and arguments of a command of ours, without what starts it."""
    words = [w for w in shlex.split(line, comments=True) if not re.match(r'[A-Z]+=', w)]
    if words[0] == 'srun':
        words = words[words.index('python') :]
    if words[0] == 'torchrun':
        options = get_args_parser().parse_args(words[1:])
        words = [*([] if options.no_python else ['python'])]
        words += [options.training_script, *options.training_script_args]
    if words[0] == 'python':
        words = [word for word in words[1:] if word != '-u']
    return words[0], words[1:]


@pytest.mark.parametrize('line', commands())
def test_commands_are_understood(line, parse):
    program, arguments = split_command(line)
    if program == 'make':
        targets = re.findall(r'^([a-z]+):', (ROOT / 'Makefile').read_text(), re.M)
        assert {word for word in arguments if '=' not in word} <= set(targets)
        return
    if program == 'mmbanet':
        command, *arguments = arguments
        assert command in COMMANDS
        program = f'mmbanet/cli/{command.replace("-", "_")}.py'
    path = ROOT / program
    assert path.exists()
    if arguments[-1:] in ([], ['--help']):
        return
    args = parse(path, arguments)
    config = ROOT / str(getattr(args, 'config', None))
    if config.is_file() and getattr(args, 'cfg_options', None):
        check_options(Config.fromfile(config), args.cfg_options)


@pytest.mark.parametrize('path', TOOLS, ids=lambda path: path.stem)
def test_help_shows_the_command(path, load, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', [path.name, '--help'])
    with pytest.raises(SystemExit):
        load(path).main()
    said = ' '.join(capsys.readouterr().out.partition('\n\n')[2].split())
    command = path.stem.replace('_', '-')
    ways = (f'python {path.relative_to(ROOT)} ', f'mmbanet {command} ', f'make {command}')
    assert any(way in said.replace('`', ' ') for way in ways)


def check_options(cfg: Config, options: dict) -> None:
    """That a config has the places of options, but for a last key, which may be new."""
    cfg.setdefault('randomness', {})  # MMEngine's runner has it without the config
    for key in options:
        *path, last = key.split('.')
        place = cfg
        for part in path:
            place = place[int(part)] if isinstance(place, (list, tuple)) else place[part]
        assert last in place or hasattr(place, 'keys'), key
    cfg.merge_from_dict(options)


@pytest.fixture(scope='module')
def demo(tmp_path_factory):
    """A folder with what `make demo` leaves, of a model that has learnt nothing."""
    folder = tmp_path_factory.mktemp('demo')
    (folder / 'configs').symlink_to(CONFIGS)
    (folder / 'work_dirs' / 'demo').mkdir(parents=True)
    cfg = Config.fromfile(CONFIGS / 'banet' / 'banet_r18_fpn_scenes.py')
    state = MODELS.build(cfg.model).state_dict()
    checkpoint = dict(state_dict=state, meta=dict(dataset_meta=METAINFO))
    torch.save(checkpoint, folder / 'work_dirs' / 'demo' / 'iter_500.pth')
    image = folder / 'data' / 'scenes' / 'val' / '000000000013.jpg'
    image.parent.mkdir(parents=True)
    cv2.imwrite(str(image), np.random.default_rng(0).integers(0, 255, (128, 128, 3), np.uint8))
    return folder


@pytest.mark.parametrize('code', fences('python'))
def test_python_runs(code, demo, tmp_path, monkeypatch):
    """Scripts run; configs with a base are loaded and their types exist; what is left compiles."""
    tree = ast.parse(code)
    monkeypatch.chdir(demo)
    if any(isinstance(node, (ast.Import, ast.ImportFrom)) for node in tree.body):
        exec(compile(tree, 'docs', 'exec'), {})
    elif code.startswith('_base_'):
        path = tmp_path / 'config.py'
        path.write_text(re.sub(r"'((?!mmdet::)[\w/.]+\.py)'", whole_path, code))
        cfg = Config.fromfile(path)
        assert MODELS.get(cfg.model.type)
    else:
        compile(tree, 'docs', 'exec')


def whole_path(match: re.Match) -> str:
    """The one config of that name, for a base that is named relative to some folder."""
    (path,) = CONFIGS.rglob(Path(match[1]).name)
    return repr(str(path))


def test_example_of_the_op_is_right():
    page = (ROOT / 'docs' / 'roi_inlay.md').read_text()
    (example,) = re.findall(r'```python\n(import torch.*?)```', page, re.S)
    scope = {}
    exec(example, scope)
    assert scope['inlaid'].shape == (2, 256, 50, 76)
    assert scope['crops'].grad.abs().sum() > 0


def test_example_of_occlusion_handling_is_right():
    page = (ROOT / 'docs' / 'occlusion_handling.md').read_text()
    (example,) = re.findall(r'```python\n(import torch.*?)```', page, re.S)
    scope = {}
    exec(example, scope)
    assert scope['owner'][34, 32] == 1
    assert scope['keep'].tolist() == [True, True]


def test_no_tool_of_mmdet_is_left_out():
    """Of the table for its users: each is named, by its name or by a pattern."""
    page = (ROOT / 'docs' / 'mmdet_users.md').read_text()
    named = re.findall(r'[\w*/]*[\w*]+\.(?:py|sh)\b|\w+/\*', page)
    tools = Path(mmdet.__file__).parent / '.mim' / 'tools'
    files = [path for kind in ('py', 'sh') for path in tools.rglob(f'*.{kind}')]
    assert len(files) > 50
    lost = [
        str(path.relative_to(tools))
        for path in files
        if not any(path.match(pattern) for pattern in named) and 'scripts' not in path.parts
    ]
    assert lost == []


def test_api_has_every_public_name():
    """What packages export and what configs can name."""
    rooms = (apis, datasets, engine, evaluation, fusion, models, ops, scenes, structures)
    public = {name for room in (*rooms, visualization) for name in room.__all__}
    public = {name for name in public if not name.isupper()} | {*mmbanet._MODULES}
    for part in vars(registry).values():
        if isinstance(part, Registry) and part.scope == 'mmbanet':
            named = part.module_dict.items()  # tests of other files register theirs
            public |= {name for name, kind in named if kind.__module__.startswith('mmbanet.')}
    page = (ROOT / 'docs' / 'api.md').read_text()
    listed = re.findall(r'^\.\. auto(?:class|function):: (?:[\w.]+\.)?(\w+)$', page, re.M)
    assert sorted(public - set(listed)) == [], 'docs/api.md lacks them'
    assert sorted(set(listed) - public) == [], 'docs/api.md has what is not public'


def test_readme_is_short():
    assert len((ROOT / 'README.md').read_text().splitlines()) <= 150


def first_table(text: str) -> list[list[str]]:
    """Its head and rows, cell by cell."""
    table = re.search(r'\n\n((?:\|.*\n)+)', text)[1]
    head, _, *rows = ([c.strip() for c in line.split('|')[1:-1]] for line in table.splitlines())
    return [head, *rows]


def table_after(page: str, *before: str) -> list[list[str]]:
    """The rows of the first table of a page behind all these words, without what marks them."""
    text = (ROOT / page).read_text()
    for words in before:
        _, found, text = text.partition(words)
        assert found, f'{page}: {words}'
    _, *rows = first_table(text.replace('\N{MULTIPLICATION SIGN}', 'x'))
    return [[re.sub('[*`]', '', cell) for cell in row] for row in rows]


def result(name: str) -> dict:
    """What a benchmark has written."""
    return json.loads((RESULTS / f'{name}.json').read_text())


@pytest.mark.parametrize(
    ('page', 'before', 'table_of', 'chosen'),
    [
        ('README.md', '## Results', 'scenes/table_1', range(7)),
        ('docs/index.md', 'On COCO nothing has been measured', 'scenes/table_1', [1, 4]),
        ('README.md', "On CamVid's street frames", 'camvid/table_2', [0, 3, 5]),
        ('README.md', 'On scenes composed of its frames', 'photo_scenes/table_losses', None),
        ('docs/parts.md', '## Trained longer', 'photo_scenes/table_losses', None),
        *(
            ('docs/results.md', f'### Table {number}:', f'scenes/table_{number}', None)
            for number in (1, 2, 3, 4, 6)
        ),
        ('docs/results.md', '### Table 2 on street frames', 'camvid/table_2', None),
        (
            'docs/results.md',
            '### Table 2 on composed photographs',
            'photo_scenes/table_2',
            None,
        ),
    ],
)
def test_figures_are_those_that_were_written(page, before, table_of, chosen):
    """Row by row, as tools/reproduce.py has them in its JSON."""
    section = (ROOT / page).read_text().partition(f'\n{before}')[2]
    heads, *rows = first_table(section)
    written = result(table_of)['rows']
    written = [written[k] for k in chosen or range(len(written))]
    assert len(rows) == len(written)
    compared = 0
    for row, of in zip(rows, written):
        for head, cell in zip(heads, row):
            name = f'coco_panoptic/{head.replace("_Th", "_th").replace("PQ_St", "PQ_st")}'
            if name in of['measured'][0]:
                values = [metrics[name] for metrics in of['measured']]
                expected = f'{mean(values):.1f}'
                expected += f' ±{stdev(values):.1f}' if len(values) > 1 else ''
                said, _, on_coco = cell.rstrip(')').partition(' (')
                assert said == expected, (row, head)
                if on_coco:
                    paper = of['paper'][name.removeprefix('coco_panoptic/')]
                    assert on_coco == f'{paper:.1f}', (row, head)
                compared += 1
    assert compared >= 3 * len(rows)


def test_longer_training_is_what_was_measured():
    rows = table_after('docs/parts.md', 'of unfinished trainings')
    written = result('photo_scenes/longer')
    of = {(row['model'], row['iterations']): row['measured'][0] for row in written['rows']}
    for (head, *cells, things, stuff), iterations in zip(rows, (500, 1000, 1500), strict=True):
        assert head == f'{iterations:,}'
        models = [of[model, iterations]['coco_panoptic/PQ'] for model in ('baseline', 'BANet')]
        assert cells[:2] == [f'{value:.1f}' for value in models]
        end = '' if iterations == 1500 else f' {iterations}'
        differences = written['differences'][f'BANet{end} - baseline{end}']
        for cell, name in zip([cells[2], things, stuff], ('PQ', 'PQ_th', 'PQ_st'), strict=True):
            low, high = differences[name]['95% by images']
            expected = f'{differences[name]["by_seed"][0]:+.1f} ({low:.1f} to {high:.1f})'
            assert cell.replace('\N{MINUS SIGN}', '-') == expected


def test_weights_of_losses_are_those_that_were_measured():
    _, _, section = (ROOT / 'docs' / 'parts.md').read_text().partition('## The weight of the')
    heads, *rows = first_table(section)
    written = result('photo_scenes/full_losses')['rows']
    for (_, weights, *cells), row in zip(rows, written[:-1], strict=True):  # but annotated boxes
        assert weights == ', '.join(map(str, row['loss_weights']))
        for head, cell in zip(heads[2:], cells, strict=True):
            name = f'coco_panoptic/{head.replace("PQ_Th", "PQ_th").replace("PQ_St", "PQ_st")}'
            assert cell == ' / '.join(f'{metrics[name]:.1f}' for metrics in row['measured'])


@pytest.mark.parametrize(('device', 'before'), [('cpu', []), ('cuda', ['On an NVIDIA H200'])])
def test_costs_are_those_that_were_measured(device, before):
    rows = table_after('docs/results.md', '## Cost of whole models', *before)
    models = result(f'compare_models_{device}')['models'].values()
    first = next(iter(models))
    for (_, *cells), model in zip(rows, models, strict=True):
        sizes = [f'{model["parameters"] / 1e6:.1f}', f'{sum(model["gmacs"].values()):.0f}']
        assert cells == [
            *(sizes if device == 'cpu' else ()),  # the same on both
            f'{model["total_ms"]:.0f}',
            f'{model["total_ms"] / first["total_ms"]:.2f}',
            f'{model["bytes"] / 1e6:.0f}',
            f'{model["training_ms"]:.0f}',
            f'{model["training_ms"] / first["training_ms"]:.2f}',
        ]


@pytest.mark.parametrize(
    ('before', 'table_of'),
    [
        ('### Table 2: ablation', 'scenes/table_2'),
        ('### Table 2 on street frames', 'camvid/table_2'),
        ('### Table 2 on composed photographs', 'photo_scenes/table_2'),
    ],
)
def test_steps_are_those_that_were_written(before, table_of):
    """The difference of each step with its interval over seeds and images, in the words."""
    _, _, section = (ROOT / 'docs' / 'results.md').read_text().partition(before)
    section = re.split(r'\n##+ ', section)[0].replace('\N{MINUS SIGN}', '-').replace(' PQ', '')
    said = ' '.join(section.replace('**', '').split())
    *steps, _ = result(table_of)['gains']  # the last one is of all steps together
    assert len(steps) == 5
    for step in steps:
        if isinstance(step, str):  # as it was written before there were things and stuff
            found = re.search(r'PQ (\S+) .* (\S+) to (\S+) by seeds and images', step)
            gain, low, high = map(float, found.groups())
        else:
            gain = mean(step['PQ']['by_seed'])
            low, high = step['PQ']['95% by seeds and images']
        text = f'{gain:+.1f}' if round(gain, 1) else '0.0'
        assert f'{text} ({low:.1f} to {high:.1f})' in said, step


def test_memory_of_training_is_that_which_was_measured():
    measured = [result(f'compare_models_{device}')['models'] for device in ('cpu', 'cuda')]
    rows = table_after('docs/coco.md', '**Memory.**')
    assert len(rows) == 4
    for name, *cells in rows:
        name = name.replace('PanopticFPN', 'panoptic_fpn').replace(',', '')
        name = name.lower().replace(' ', '_')
        expected = [
            f'{models[name]["training_bytes"] / 1e9:.1f}' if name in models else 'not measured'
            for models in measured
        ]
        assert cells == [*expected, f'{12 * measured[0][name]["parameters"] / 1e9:.1f}'], name


def test_overlap_of_the_generated_scenes_is_that_of_todays(tmp_path):
    """Of the first ones; all of them are what the page counts."""
    root = scenes.generate_scenes(tmp_path / 'scenes', train=100, val=1, workers=1)
    counts = measure_overlap(str(root / 'annotations' / 'instances_train.json'))
    page = (ROOT / 'docs' / 'coco.md').read_text()
    pattern = r'(\S+) overlapping pairs an image, (\d+)% of\s+them by more than 20%'
    pairs, share = map(float, re.search(pattern, page).groups())
    assert pairs == pytest.approx(counts.mask_pairs / counts.images, abs=0.3)
    assert share == pytest.approx(100 * counts.occluded_pairs / counts.mask_pairs, abs=7)


def test_hours_follow_from_the_operations(load):
    """Of the images of each config's schedule."""
    pace = 1e12 * load(ROOT / 'tools' / 'reproduce.py').TERAFLOPS['coco']
    rows = table_after('docs/coco.md', '**Hours**')
    assert len(rows) == 5
    for name, gigaflops, *cells in rows:
        cfg = Config.fromfile(CONFIGS / (name if '/' in name else f'banet/{name}'))
        images = cfg.train_cfg.max_iters * cfg.auto_scale_lr.base_batch_size
        seconds = images * 1e9 * float(gigaflops.replace(',', '')) / pace
        for cell, gpus in zip(cells, (1, 8, 16), strict=True):
            half = 0.51 * 10.0 ** -len(cell.partition('.')[2])
            assert float(cell) == pytest.approx(seconds / 3600 / gpus, abs=half), name


def test_schedules_for_other_gpus_see_the_images_of_the_config(parse):
    """All of a schedule is stretched alike; gradients are accumulated to the same batch."""
    lines = [param.values[0] for param in commands() if 'train_cfg.max_iters=' in param.values[0]]
    lines = [line for line in lines if 'banet_r50_fpn_1x_coco.py' in line]
    split = [split_command(line) for line in lines]  # by a parser that parse() replaces
    assert len(split) == 2
    for line, (program, arguments) in zip(lines, split):
        gpus = 1
        for number in re.findall(r'--(?:nnodes|nproc-per-node) (\d+)', line):
            gpus *= int(number)
        args = parse(ROOT / program, arguments)
        cfg = Config.fromfile(ROOT / args.config)
        _, decay = cfg.param_scheduler
        steps, batch = cfg.train_cfg.max_iters, gpus * cfg.train_dataloader.batch_size
        options = args.cfg_options
        base = cfg.auto_scale_lr.base_batch_size
        times = options['train_cfg.max_iters'] / steps
        assert times * batch == base
        assert options['train_cfg.val_interval'] == times * cfg.train_cfg.val_interval
        assert options['param_scheduler.1.end'] == times * steps
        milestones = [times * place for place in decay.milestones]
        assert options['param_scheduler.1.milestones'] == milestones
        accumulated = options.get('optim_wrapper.accumulative_counts', 1)
        assert args.auto_scale_lr == (accumulated * batch != base)  # then the rate is to be scaled


@pytest.mark.parametrize('place', ['full size', 'stride 4'])
def test_speed_of_fusion_is_that_which_was_measured(place):
    page = 'docs/occlusion_handling.md'
    at = ('full size', 'stride 4').index(place)
    written = {
        (row['objects'], f'{row["height"]}x{row["width"]}'): row
        for row in result('fusion_cpu')['rows']
        if row['logits'] == place
    }
    for image, objects, *cells in table_after(page, 'cores of an Intel Xeon'):
        row = written[int(objects), image]
        ours, theirs = row['ms']['mmbanet'], row['ms']['mmdet']
        assert cells[4 * at : 4 * at + 4] == [
            f'{ours:.0f} ms',
            f'{theirs:.0f} ms',
            f'{ours / theirs:.2f}',
            f'{row["bytes"]["mmbanet"] / row["bytes"]["mmdet"]:.2f}',
        ]
    written = [row for row in result('fusion_cuda')['rows'] if row['logits'] == place]
    rows = table_after(page, 'On an NVIDIA H200')
    for (objects, *cells), row in zip(rows, written, strict=True):
        ours, theirs = row['ms']['mmbanet'], row['ms']['mmdet']
        assert int(objects) == row['objects']
        assert [cell.split(' / ')[at] for cell in cells] == [
            *(f'{ms:.1f}' if ms < 100 else f'{ms:.0f}' for ms in (ours, theirs)),
            f'{ours / theirs:.1f}',
            f'{row["bytes"]["mmbanet"] / row["bytes"]["mmdet"]:.2f}',
        ]


def test_costs_of_fusions_are_those_that_were_measured():
    rows = table_after('docs/rivals.md', '## What they cost')
    written = {
        row['fusion']: row
        for row in result('fusion_rules_cost_cpu')['rows']
        if row['width'] == 1333
    }
    assert len(rows) > 10
    for name, *cells in rows:
        row = written[name]
        figures = f'{row["ratio"]:.2f}', f'{row["ratio_alone"]:.2f}', f'{row["bytes"] / 1e6:.0f}'
        assert cells == [*figures], name


def test_order_rules_in_fusion_are_those_that_were_measured():
    rows = table_after('docs/occlusion_handling.md', 'who_is_in_front.md))', '1,000 scenes of')
    names = ('banet', 'panoptic_fpn')
    models = [result(f'occlusion_rules_{name}_scenes_1000')['rules'].values() for name in names]
    for (_, *cells), *rules in zip(rows, *models, strict=True):
        assert cells == [
            figure
            for rule in rules
            for figure in (
                f'{rule["coco_panoptic/PQ_th"]:.1f}',
                f'{rule["occlusion/accuracy"]:.1f}%',
                f'{rule["occlusion/accuracy_same_class"]:.1f}%',
            )
        ]


def test_readings_are_those_that_were_measured():
    written = result('scenes/readings')
    rows = table_after('docs/readings.md', '## Fusion')
    models = [model['readings'].values() for model in written['fusion'].values()]
    for (_, *cells), *readings in zip(rows, *models, strict=True):
        assert cells == [
            figure
            for reading in readings
            for figure in (
                f'{reading["coco_panoptic/PQ"]:.2f}',
                f'{reading["coco_panoptic/PQ_th"]:.2f}',
                f'{reading["occlusion/accuracy"]:.1f}',
            )
        ]
    rows = table_after('docs/readings.md', '## Training')
    for (name, *cells), (setting, metrics) in zip(rows, written['training'].items(), strict=True):
        assert name == setting
        assert cells == [
            f'{metrics[f"coco_panoptic/{part}"]:.2f}' for part in ('PQ', 'PQ_th', 'PQ_st')
        ]


def test_speed_of_roi_inlay_is_that_which_was_measured():
    page = 'docs/roi_inlay.md'
    rows = table_after(page, '## Speed')
    for (case, *cells), row in zip(rows, result('roi_inlay_cpu')['rows'], strict=True):
        there, back = row['forward_ms'], row['backward_ms']
        rivals = 'roi_upsample sum', 'grid_sample'
        assert case == row['case']
        assert cells == [
            f'{there["roi_inlay"]:.0f}',
            *(
                f'x{there[name] / there["roi_inlay"]:.1f}'
                for name in (*rivals, 'roi_align backward')
            ),
            f'{row["floor_ms"]:.1f}',
            f'{back["roi_inlay"]:.0f}',
            *(f'x{back[name] / back["roi_inlay"]:.1f}' for name in rivals),
        ]
    rows = table_after(page, 'On an NVIDIA H200')
    for (case, *cells), row in zip(rows, result('roi_inlay_cuda')['rows'], strict=True):
        there, back = row['forward_ms'], row['backward_ms']
        over = there['roi_inlay'] / row['floor_ms']
        ratios = [
            ' / '.join(
                f'x{ms[f"roi_upsample {kind}"] / ms["roi_inlay"]:.2f}' for kind in ('sum', 'mean')
            )
            for ms in (there, back)
        ]
        assert case == row['case']
        assert [*cells[:2], *cells[3:]] == [
            f'{there["roi_inlay"]:#.3g}',
            ratios[0],
            f'{row["floor_ms"]:.3f}',
            f'{over:.1f}' if over < 10 else f'{over:.0f}',
            f'{back["roi_inlay"]:#.3g}',
            ratios[1],
        ]


def test_who_is_in_front_is_what_was_measured():
    page, masks = 'docs/who_is_in_front.md', result('photographs/order')['masks']
    columns = ['same class', 'other class', 'inside', 'decided', 'of_decided']
    for words, kind, shown in (
        ('800 scenes of', 'head', columns),
        ("A model's own detections", 'detections', [c for c in columns if c != 'inside']),
    ):
        rows = table_after(page, words)
        for (name, *cells), rule in zip(rows, masks[kind]['rules'].values(), strict=True):
            low, high = rule['all']['low'], rule['all']['high']
            figures = [rule[column] for column in shown]
            figures = [of['percent'] if isinstance(of, dict) else of for of in figures]
            assert cells == [
                f'{rule["all"]["percent"]:.1f} ({low:.1f} to {high:.1f})',
                *('100' if percent == 100 else f'{percent:.1f}' for percent in figures),
            ], name
    rows = table_after(page, '## The drawn scenes')
    rules = masks['head']['rules'].values()
    for (name, on_photographs, *_), rule in zip(rows, rules):
        assert on_photographs == f'{rule["all"]["percent"]:.1f}', name


def test_growth_is_that_which_was_measured():
    rows = table_after('docs/speed.md', '## How cost grows')
    for (panel, *_, exponents, _), line in zip(rows, result('growth_cpu')['lines'], strict=True):
        shown = (
            [line['exponent']]
            if len(line['sizes']) == 2
            else [
                line['exponent'],
                line['last_exponent'],
            ]
        )
        assert panel == line['panel']
        assert exponents == '; '.join(f'{exponent:.2f}' for exponent in shown)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="MyST's parser wants Python 3.11")
def test_sphinx_builds_without_a_warning(tmp_path, monkeypatch):
    from sphinx.cmd.build import build_main

    monkeypatch.chdir(ROOT)
    options = ['--fail-on-warning', '--keep-going', '--quiet', '--doctree-dir', tmp_path / 'trees']
    assert build_main([str(part) for part in (*options, 'docs', tmp_path / 'html')]) == 0
    assert 'roi_inlay' in (tmp_path / 'html' / 'api.html').read_text()
