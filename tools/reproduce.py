"""The paper's tables and figures: ``python tools/reproduce.py --table 2``.

Trains what is missing with several seeds, evaluates it, and prints the table in the paper's layout,
the paper's figures on COCO beside the measured ones (mean and standard deviation over seeds). What
is done is kept in the work folder; an interrupted run goes on where it stopped. The table is also
written there as JSON, Markdown and a plot.

The data set is COCO (``--data coco``), or generated scenes with models, size and schedule that a
CPU can train (``--data scenes``): small numbers of their own, not to be compared with COCO's.
Tables 1, 2, 3, 4, 6 and figure 6 are trained; table 5 and figure 7 are benchmarks of operators.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import torch
from paper import report
from paper.figure import draw_results
from paper.runs import CONFIGS, TOOLS, RunFailed, Trained
from paper.tables import BACKBONES, DATA, FIGURE_6, TABLES, Row, Table

from mmbanet.datasets.scenes import generate_scenes
from mmbanet.engine.launch import argument_parser, load_config

OPERATORS = {
    'table 5': ['benchmarks/roi_inlay.py'],
    'figure 7': ['benchmarks/patch_recovery.py'],
}


def main() -> None:
    """Parses the arguments, runs what is missing, prints the table."""
    args = parse_arguments()
    asked = f'table {args.table}' if args.table else f'figure {args.figure}'
    if asked in OPERATORS:
        command = [sys.executable, str(TOOLS / OPERATORS[asked][0]), '--out', str(args.work_dir)]
        args.work_dir.mkdir(parents=True, exist_ok=True)
        raise SystemExit(subprocess.run(command).returncode)

    table = TABLES.get(args.table)
    rows = [row for row in (table.rows if table else FIGURE_6) if row.config]
    provide_data(args.data, args.data_root)
    os.environ.setdefault('OMP_NUM_THREADS', str(max(1, (os.cpu_count() or 1) // args.jobs)))
    try:
        with ThreadPoolExecutor(args.jobs) as pool:
            train(rows, args, pool)
            measured = evaluate(rows, args, pool) if table else None
    except (RunFailed, ValueError) as error:
        raise SystemExit(f'{error}\nWhat is done stays in {args.work_dir}.') from error
    except KeyboardInterrupt as error:
        raise SystemExit(
            f'interrupted; the same command goes on with what is in {args.work_dir}'
        ) from error
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
    which.add_argument('--table', type=int, choices=[1, 2, 3, 4, 5, 6])
    which.add_argument('--figure', type=int, choices=[6, 7])
    parser.add_argument('--data', choices=list(DATA), default='scenes')
    parser.add_argument('--data-root', type=Path, help='(default: data/scenes or data/coco)')
    parser.add_argument('--seeds', type=int, default=3, help='of a table (default: 3)')
    parser.add_argument('--work-dir', type=Path, help='(default: work_dirs/reproduce/DATA)')
    parser.add_argument('--jobs', type=int, default=1, help='trainings at the same time')
    parser.add_argument('--gpus', type=int, default=1, help='processes of one training')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE')
    parser.add_argument('--images', type=int, default=6, help='of figure 6 (default: 6)')
    args = parser.parse_args()
    if min(args.seeds, args.jobs, args.gpus, args.images) < 1:
        parser.error('--seeds, --jobs, --gpus and --images must be at least 1')
    if args.figure:
        args.seeds = 1
    args.data_root = args.data_root or Path('data') / args.data
    args.work_dir = args.work_dir or Path('work_dirs/reproduce') / args.data
    return args


def config_names(row: Row, data: str) -> tuple[str, str]:
    """The configs that a row is evaluated and trained with."""
    return tuple(
        name.format_map(DATA[data]) for name in (row.config, row.checkpoint_of or row.config)
    )


def provide_data(data: str, root: Path) -> None:
    """Generates the scenes where there are none; checks that COCO is there.

    Raises:
        SystemExit: COCO's files are missing.
    """
    if data == 'scenes':
        if not (root / 'scenes.json').exists():
            generate_scenes(root)
        return
    names = ['train2017', 'val2017']
    names += [f'annotations/panoptic_{name}' for name in names]
    names += [f'{name}.json' for name in names[2:]] + ['annotations/instances_val2017.json']
    missing = [name for name in names if not (root / name).exists()]
    if missing:
        raise SystemExit(
            f'COCO is not complete in {root.resolve()}, missing: {", ".join(missing)}; '
            'set --data-root, or take generated scenes with --data scenes'
        )


def train(rows: list[Row], args: argparse.Namespace, pool: Executor) -> None:
    """Trains what the rows are evaluated with and what is not there yet.

    Raises:
        RunFailed: A training failed.
        ValueError: The work folder holds a checkpoint of another config.
    """
    # Seed by seed, so that an interrupted run has whole tables.
    configs = list(dict.fromkeys(config_names(row, args.data)[1] for row in rows))
    runs = [trained(config, seed, args) for seed in range(args.seeds) for config in configs]
    start = time.monotonic()
    futures = [pool.submit(run.train) for run in runs]
    try:
        for number, (run, future) in enumerate(zip(runs, futures), start=1):
            what = 'trained' if future.result() else 'found'
            minutes = (time.monotonic() - start) / 60
            print(
                f'{number}/{len(runs)} {what} {run.config} seed {run.seed}, {minutes:.0f} min',
                flush=True,
            )
    except BaseException:
        pool.shutdown(cancel_futures=True)
        raise


def evaluate(rows: list[Row], args: argparse.Namespace, pool: Executor) -> list[report.Measured]:
    """Metrics of each row and seed; what is done is not done again.

    Raises:
        RunFailed: An evaluation failed.
    """
    names = [config_names(row, args.data) for row in rows]
    tests = [
        [pool.submit(trained(config, seed, args).evaluate, name) for seed in range(args.seeds)]
        for name, config in names
    ]
    backbones = BACKBONES[args.data]
    return [
        report.Measured(
            row,
            cells=tuple(backbones.get(cell, cell) for cell in row.cells),
            metrics=[future.result() for future in part],
        )
        for row, part in zip(rows, tests)
    ]


def trained(config: str, seed: int, args: argparse.Namespace) -> Trained:
    """A config with a seed, to be trained or found in the work folder."""
    options = tuple(args.cfg_options)
    return Trained(config, seed, args.work_dir, args.data_root, options, args.gpus)


def draw_figure(rows: list[Row], args: argparse.Namespace) -> None:
    """Draws figure 6, of the first seed."""
    options = ['--data-root', str(args.data_root)]
    if args.cfg_options:
        options += ['--cfg-options', *args.cfg_options]
    models = {}
    for row in rows:
        name, config = config_names(row, args.data)
        cfg = load_config(argument_parser('').parse_args([str(CONFIGS / f'{name}.py'), *options]))
        models[row.cells[0]] = (cfg, trained(config, 0, args).checkpoint)
    path = args.work_dir / 'figure_6.png'
    draw_results(models, args.images, path)
    print(f'{args.data} val: the {args.images} images with the most things, written: {path}')


def write_report(table: Table, measured: list[report.Measured], args: argparse.Namespace) -> None:
    """Prints the table and writes it as JSON, Markdown and a plot."""
    data = f'{args.data} val'
    seeds = f'{args.seeds} seed{"s" if args.seeds > 1 else ""}'
    caption = f'Table {args.table}: {table.title}. {data}: mean ± standard deviation, {seeds}.'
    rows = report.lines(table, measured, data)
    notes = report.gains(table, measured)
    print(f'\n{caption}\n\n{report.text_table(rows)}\n')
    print('\n'.join(f'{data}: {note}' for note in notes))

    stem = args.work_dir / f'table_{args.table}'
    stem.with_suffix('.md').write_text(
        '\n\n'.join([caption, report.markdown(rows), '\n'.join(f'* {note}' for note in notes)])
        + '\n'
    )
    content = dict(
        table=args.table,
        data=data,
        seeds=args.seeds,
        torch=torch.__version__,
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
                    trained(config, seed, args).seconds for seed in range(args.seeds)
                ],
            )
            for item in measured
            for name, config in [config_names(item.row, args.data)]
        ],
        gains=notes,
    )
    stem.with_suffix('.json').write_text(json.dumps(content, indent=1) + '\n')
    report.plot(table, measured, data, stem.with_suffix('.png'))
    print(f'\nwritten: {stem}.md, .json, .png')


if __name__ == '__main__':
    main()
