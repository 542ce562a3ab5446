"""The paper's tables and figures: ``python tools/reproduce.py --table 2``.

Trains what is missing with several seeds, evaluates it, and prints the table in the paper's layout,
the paper's figures on COCO beside the measured ones (mean and standard deviation over seeds). What
is done is kept in the work folder; an interrupted run goes on where it stopped. The table is also
written there as JSON, Markdown and a plot.

The data set is COCO (``--data coco``), or one with models, size and schedule that a CPU can train,
whose small numbers are not to be compared with COCO's: generated scenes (``--data scenes``), CamVid
(``--data camvid``, a folder in the layout of the SegNet tutorial, instances are connected
components), or scenes composed of its frames (``--data photo_scenes``).
Tables 1, 2, 3, 4, 6 and figure 6 are trained; table 5 and figure 7 are benchmarks of operators.
Table "losses" is not the paper's: what the weight of the semantic losses does.

``--dry-run`` writes nothing: it prints what is to be trained, how long that takes by a model of
throughput, and whether the data are there.
"""

from mmbanet.cli import run_tool

if __name__ == '__main__':
    run_tool(__file__, 'the same command goes on with what is in the work folder')

import argparse
import importlib
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path

from paper import report
from paper.figure import draw_results
from paper.origin import origin
from paper.plan import plan_table, plan_trainings
from paper.runs import CONFIGS, TOOLS, RunFailed, Trained, interrupt_tools, interrupted
from paper.tables import BACKBONES, DATA, DFM, FIGURE_6, TABLES, Row, Table

from mmbanet.cli.arguments import setting
from mmbanet.datasets.class_map import ClassMap
from mmbanet.datasets.panoptic_files import write_whole
from mmbanet.datasets.panoptic_writer import write_data_set
from mmbanet.datasets.semantic_conversion import semantic_data_set
from mmbanet.messages import counted
from mmbanet.scenes import compose_scenes, generate_scenes

# What the published tables were made with.
SCENES = dict(scenes=(1000, 200), photo_scenes=(2000, 500))
# Images for training and validation of the others.
IMAGES = dict(coco=(118287, 5000), camvid=(367, 101))
# What a process does, in 1e12 operations a second as paper/plan.py counts them. On COCO a V100:
# mmdet trains Mask R-CNN R50 at 53 images a second on 8 of them (detectron2's benchmarks), 1.41e12
# operations each. Else a core of an Intel Xeon with the small models on the scenes.
TERAFLOPS = dict(coco=9.3)
CORE_TERAFLOPS = 0.05
CAMVID_CLASSES = TOOLS.parent / 'examples' / 'camvid' / 'classes.json'
OPERATORS = {
    'table 5': 'roi_inlay',
    'figure 7': 'patch_recovery',
}


def main() -> None:
    """Parses the arguments, runs what is missing, prints the table."""
    args = parse_arguments()
    asked = f'table {args.table}' if args.table else f'figure {args.figure}'
    if asked in OPERATORS:
        args.work_dir.mkdir(parents=True, exist_ok=True)
        benchmark = TOOLS / 'benchmarks' / f'{OPERATORS[asked]}.py'
        sys.path.insert(0, str(benchmark.parent))
        sys.argv = [str(benchmark), '--out', str(args.work_dir)]
        importlib.import_module(benchmark.stem).main()
        return

    table = TABLES.get(args.table)
    rows = [
        row
        for number, row in enumerate(table.rows if table else FIGURE_6, 1)
        if row.config and number in (args.rows or [number])
    ]
    if missing := missing_configs(rows, args.data):
        message = f'{asked} has no configs of {args.data}: {", ".join(missing)}'
        rows = [row for row in rows if not missing_configs([row], args.data)]
        if len(rows) < 2:  # nothing to compare
            raise FileNotFoundError(message)
        print(f'{message}; these rows are left out', flush=True)
    if args.dry_run:
        print_plan(rows, args)
        return
    args.work_dir.mkdir(parents=True, exist_ok=True)
    provide_data(args)
    os.environ.setdefault('OMP_NUM_THREADS', str(max(1, (os.cpu_count() or 1) // args.jobs)))
    interrupted.clear()
    with ThreadPoolExecutor(args.jobs) as pool:
        try:
            train(rows, args, pool)
            measured = evaluate(rows, args, pool) if table else None
        except KeyboardInterrupt:
            interrupt_tools()
            raise
        except RunFailed as error:
            raise RunFailed(f'{error}; what is done stays in {args.work_dir}') from error
        finally:
            pool.shutdown(cancel_futures=True)
    if table:
        write_report(table, measured, args)
    else:
        draw_figure(rows, args)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument('--table', choices=sorted([*TABLES, '5']))
    which.add_argument('--figure', type=int, choices=[6, 7])
    parser.add_argument('--data', choices=list(DATA), default='scenes')
    parser.add_argument('--data-root', type=Path, help='(default: data/DATA)')
    parser.add_argument(
        '--photographs',
        type=Path,
        default=Path('data/camvid'),
        help='CamVid, to compose scenes of (default: data/camvid)',
    )
    parser.add_argument(
        '--scenes',
        type=int,
        nargs=2,
        metavar=('TRAIN', 'VAL'),
        help='how many are generated or composed (default: 1000 200, composed 2000 500)',
    )
    parser.add_argument(
        '--rows', type=int, nargs='+', metavar='N', help='of a table, from 1 (default: all)'
    )
    parser.add_argument('--seeds', type=int, default=3, help='of a table (default: 3)')
    parser.add_argument('--work-dir', type=Path, help='(default: work_dirs/reproduce/DATA)')
    parser.add_argument('--jobs', type=int, default=1, help='trainings at the same time')
    parser.add_argument('--gpus', type=int, default=1, help='processes of one training')
    parser.add_argument('--cfg-options', nargs='+', type=setting, default=[], metavar='KEY=VALUE')
    parser.add_argument('--images', type=int, default=6, help='of figure 6 (default: 6)')
    parser.add_argument('--dry-run', action='store_true', help='print the plan, check the data')
    parser.add_argument(
        '--teraflops',
        type=float,
        help='of the plan: 1e12 operations a second of each process '
        f'(default: {TERAFLOPS["coco"]:g} on COCO, a V100; else {CORE_TERAFLOPS:g}, a core)',
    )
    args = parser.parse_args()
    if min(args.seeds, args.jobs, args.gpus, args.images) < 1:
        parser.error('--seeds, --jobs, --gpus and --images must be at least 1')
    if args.teraflops is not None and args.teraflops <= 0:
        parser.error(f'--teraflops must be positive, got {args.teraflops}')
    if args.dry_run and (args.table == '5' or args.figure == 7):
        parser.error('--dry-run is for what is trained: table 5 and figure 7 are benchmarks')
    if args.scenes and args.data not in SCENES:
        parser.error(f'--scenes is for what is generated or composed: {args.data} has its images')
    if args.rows:
        check_rows(args.rows, args.table, parser)
    if args.figure:
        args.seeds = 1
    args.scenes = args.scenes or SCENES.get(args.data)
    args.teraflops = args.teraflops or TERAFLOPS.get(args.data, CORE_TERAFLOPS)
    args.data_root = args.data_root or Path('data') / args.data
    args.work_dir = args.work_dir or Path('work_dirs/reproduce') / args.data
    return args


def check_rows(chosen: list[int], table: str | None, parser: argparse.ArgumentParser) -> None:
    """Ends with a usage error unless the rows are in the table and can be trained."""
    if table not in TABLES:
        parser.error('--rows is for a table that is trained')
    rows = TABLES[table].rows
    for number in chosen:
        if not 1 <= number <= len(rows):
            parser.error(f'--rows: table {table} has rows 1 to {len(rows)}, not {number}')
        if not rows[number - 1].config:
            parser.error(f'--rows: of row {number} of table {table} only the paper has figures')


def again(args: argparse.Namespace) -> list[str]:
    """What makes the table of these arguments again, wherever data and results lie."""
    words = ['--table', args.table, '--data', args.data, '--seeds', args.seeds]
    if args.rows:
        words += ['--rows', *args.rows]
    if args.scenes and tuple(args.scenes) != SCENES[args.data]:
        words += ['--scenes', *args.scenes]
    if args.gpus > 1:
        words += ['--gpus', args.gpus]
    if args.cfg_options:
        words += ['--cfg-options', *args.cfg_options]
    return [str(word) for word in words]


def config_names(row: Row, data: str) -> tuple[str, str]:
    """The configs that a row is evaluated and trained with."""
    return tuple(
        name.format_map(DATA[data]) for name in (row.config, row.checkpoint_of or row.config)
    )


def missing_configs(rows: list[Row], data: str) -> list[str]:
    """Those of the rows that there are not: not every table has small models on every data set."""
    names = dict.fromkeys(name for row in rows for name in config_names(row, data))
    return [name for name in names if not (CONFIGS / f'{name}.py').exists()]


def provide_data(args: argparse.Namespace) -> None:
    """Makes what can be made and is not there; checks that the data set is there and whole.

    Raises:
        FileExistsError: Other scenes, or something else, are in their place.
        FileNotFoundError: COCO's or CamVid's files are missing.
    """
    root = args.data_root
    if args.data == 'scenes':
        generate_scenes(root, train=args.scenes[0], val=args.scenes[1])
        return
    if args.data == 'camvid':
        convert_camvid(root)
        return
    if args.data == 'photo_scenes':
        convert_camvid(args.photographs)
        numbers = dict(zip(('train', 'val'), args.scenes))
        compose_scenes(root, args.photographs, instance_masks='amodal', **numbers)
        return
    check_coco(root)


def check_coco(root: Path) -> None:
    """Checks that COCO's folders and files are there.

    Raises:
        FileNotFoundError: Some are missing.
    """
    names = [
        pattern.format(split)
        for split in ('train2017', 'val2017')
        for pattern in (
            '{}',
            'annotations/panoptic_{}',
            'annotations/panoptic_{}.json',
            'annotations/instances_{}.json',
        )
    ]
    missing = [name for name in names if not (root / name).exists()]
    if missing:
        raise FileNotFoundError(
            f'COCO is not complete in {root.resolve()}, missing: {", ".join(missing)}; '
            'set --data-root, or take generated scenes with --data scenes'
        )


def convert_camvid(root: Path) -> None:
    """Converts its label images, unless they are.

    Raises:
        FileNotFoundError: They are not there.
    """
    splits = ('train', 'val')
    if not all((root / f'annotations/panoptic_{split}.json').exists() for split in splits):
        write_data_set(
            root, semantic_data_set(root, ClassMap.from_file(CAMVID_CLASSES)), overwrite=True
        )


def print_plan(rows: list[Row], args: argparse.Namespace) -> None:
    """Prints what the trainings of the rows take, and checks the data; writes nothing.

    Raises:
        FileNotFoundError: The data are missing.
    """
    train_images, val_images = args.scenes or IMAGES[args.data]
    plans = {}
    for row in rows:
        runs = [trained(row, seed, args) for seed in range(args.seeds)]
        done = sum((run.folder / 'training.json').exists() for run in runs)
        name, cfg = runs[0].config, runs[0].resolved()
        if name not in plans:
            settings = (args.gpus, args.teraflops, train_images, args.seeds, done)
            plans[name] = plan_trainings(name, cfg, *settings)
    print(plan_table([*plans.values()]))
    processes = f'{counted(args.gpus, "process", "processes")} a training'
    print(
        f'hours: {args.teraflops:g} TFLOP/s of a process (--teraflops), {processes}, one training '
        'after another; without evaluation'
    )
    print(f'evaluations: {len(rows) * args.seeds}, {val_images} images each')
    print(f'free in {Path.cwd()}: {shutil.disk_usage(Path.cwd()).free / 1e9:.0f} GB')
    print(f'data: {describe_data(args)}')


def describe_data(args: argparse.Namespace) -> str:
    """Whether the data set is there, or what will be made.

    Raises:
        FileNotFoundError: It is not, and cannot be made.
    """
    root, numbers = args.data_root, args.scenes or IMAGES[args.data]
    if args.data == 'coco':
        check_coco(root)
        for split, expected in zip(('train2017', 'val2017'), numbers):
            for folder in (root / split, root / f'annotations/panoptic_{split}'):
                found = len(os.listdir(folder))
                if found < expected:
                    raise FileNotFoundError(f'{folder} has {found} files of {expected}')
        return f'{root.resolve()} is complete'
    if (root / 'annotations').exists():
        return f'{root.resolve()} is there'
    source = {'camvid': root, 'photo_scenes': args.photographs}.get(args.data)
    if source and not (source / 'train').exists():
        raise FileNotFoundError(f'CamVid is not in {source.resolve()}, see examples/camvid')
    return f'{root.resolve()} will be made, {numbers[0]} and {numbers[1]} images'


def train(rows: list[Row], args: argparse.Namespace, pool: Executor) -> None:
    """Trains what the rows are evaluated with and what is not there yet.

    Raises:
        RunFailed: A training failed.
        ValueError: The work folder holds a checkpoint of another config.
    """
    # Seed by seed, so that an interrupted run has whole tables.
    runs = dict.fromkeys(trained(row, seed, args) for seed in range(args.seeds) for row in rows)
    # What starts from another one's checkpoint comes when all those are there.
    first = list(dict.fromkeys(run.start or run for run in runs))
    then = [run for run in runs if run.start]
    number, total, start = 0, len(first) + len(then), time.monotonic()
    for group in (first, then):
        for run, future in zip(group, submit(pool, [run.train for run in group])):
            what = 'trained' if future.result() else 'found'
            number += 1
            minutes = (time.monotonic() - start) / 60
            print(
                f'{number}/{total} {what} {run.config} seed {run.seed}, {minutes:.0f} min',
                flush=True,
            )


def evaluate(rows: list[Row], args: argparse.Namespace, pool: Executor) -> list[report.Measured]:
    """Metrics of each row and seed; what is done is not done again.

    Raises:
        RunFailed: An evaluation failed.
    """
    tests = [
        partial(trained(row, seed, args).evaluate, config_names(row, args.data)[0])
        for row in rows
        for seed in range(args.seeds)
    ]
    done = iter(submit(pool, tests))
    backbones = BACKBONES[args.data]
    measured = []
    for row in rows:
        name, _ = config_names(row, args.data)
        metrics = [future.result() for future in islice(done, args.seeds)]
        item = report.Measured(row, tuple(backbones.get(cell, cell) for cell in row.cells), metrics)
        counted = [trained(row, seed, args).image_counts(name) for seed in range(args.seeds)]
        if None not in counted:
            counts, kinds = zip(*counted)
            item = item._replace(counts=counts, is_thing=kinds[0])
        measured.append(item)
    return measured


def submit(pool: Executor, functions: list[Callable]) -> list[Future]:
    """Calls them in the pool, in their order; none is begun any more once one has failed."""

    def stop(done: Future) -> None:
        if not done.cancelled() and done.exception():
            for future in futures:
                future.cancel()

    futures = [pool.submit(function) for function in functions]
    for future in futures:
        future.add_done_callback(stop)
    return futures


def trained(row: Row, seed: int, args: argparse.Namespace) -> Trained:
    """The training of a row with a seed, to be done or found in the work folder."""
    names = DATA[args.data]
    _, config = config_names(row, args.data)
    deeper = f'_{names["deeper"]}_' in config
    run = Trained(
        config,
        seed,
        args.work_dir,
        args.data_root,
        tuple(args.cfg_options),
        args.gpus,
        donor=None if deeper else DFM.format_map(names),  # it has all parts
    )
    if row.starts_from:
        run = run._replace(start=run._replace(config=row.starts_from.format_map(names)))
    return run


def draw_figure(rows: list[Row], args: argparse.Namespace) -> None:
    """Draws figure 6, of the first seed."""
    models = {}
    for row in rows:
        name, _ = config_names(row, args.data)
        run = trained(row, 0, args)
        models[row.cells[0]] = (run.resolved(name), run.checkpoint)
    path = args.work_dir / 'figure_6.png'
    draw_results(models, args.images, path)
    print(f'{args.data} val: the {args.images} images with the most things, written: {path}')


def write_report(table: Table, measured: list[report.Measured], args: argparse.Namespace) -> None:
    """Prints the table and writes it as JSON, Markdown and a plot."""
    data = f'{args.data} val'
    if args.scenes and tuple(args.scenes) != SCENES[args.data]:
        data = '{} train, {} val {}'.format(*args.scenes, args.data)
    seeds = counted(args.seeds, 'seed')
    caption = f'Table {args.table}: {table.title}. {data}: mean ± standard deviation, {seeds}.'
    printed = table._replace(rows=[item.row for item in measured]) if args.rows else table
    rows = report.lines(printed, measured, data)
    gains = report.gains(table, measured)
    print(f'\n{caption}\n\n{report.text_table(rows)}\n')
    print('\n'.join(f'{data}: {gain}' for gain in gains))

    made = origin(again(args), trained(measured[0].row, 0, args).resolved())
    stem = args.work_dir / f'table_{args.table}'
    page = '\n\n'.join(
        [
            caption,
            report.markdown(rows),
            '\n'.join(f'* {gain}' for gain in gains),
            f'`{made["command"]}` of {made["commit"]}, {made["date"]}; '
            f'{made["machine"]["device"]}, torch {made["machine"]["torch"]}',
        ]
    )
    write_whole(stem.with_suffix('.md'), lambda path: path.write_text(page + '\n'))
    content = dict(
        table=args.table,
        data=data,
        seeds=args.seeds,
        **made,
        rows=[
            dict(
                config=name,
                cells=item.cells,
                paper={
                    name: value
                    for name, value in zip(table.metrics, item.row.paper)
                    if not math.isnan(value)
                },
                measured=item.metrics,
                training_seconds=[
                    trained(item.row, seed, args).seconds for seed in range(args.seeds)
                ],
            )
            for item in measured
            for name, _ in [config_names(item.row, args.data)]
        ],
        gains=[gain.as_json() for gain in gains],
    )
    text = json.dumps(content, indent=1) + '\n'
    write_whole(stem.with_suffix('.json'), lambda path: path.write_text(text))
    report.plot(table, measured, data, stem.with_suffix('.png'))
    print(f'\nwritten: {stem}.md, .json, .png')
