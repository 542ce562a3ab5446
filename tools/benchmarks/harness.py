"""What the benchmarks share: arguments, and reports that name date and machine."""

import argparse
import json
from datetime import date
from pathlib import Path

import torch
from timing import machine

RESULTS = Path('work_dirs/benchmarks')


def parse_arguments(
    parser: argparse.ArgumentParser, devices: tuple[str, ...] = ('cpu', 'cuda')
) -> argparse.Namespace:
    """Adds ``--device``, ``--threads`` and ``--out``, parses, and sets the number of threads."""
    parser.add_argument('--device', choices=devices, default='cpu')
    parser.add_argument('--threads', type=int, help='CPU threads (default: all cores)')
    parser.add_argument(
        '--out', type=Path, default=RESULTS, help=f'folder of the results (default: {RESULTS})'
    )
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)  # rather now than at the end
    if args.device == 'cuda' and not torch.cuda.is_available():
        parser.error('--device cuda: no GPU is visible')
    if args.threads:
        torch.set_num_threads(args.threads)
    return args


def make_report(device: str, **figures) -> dict:
    """The figures, with what they depend on in front."""
    return dict(date=date.today().isoformat(), machine=machine(device), **figures)


def write_report(report: dict, folder: Path, name: str) -> Path:
    """Writes ``FOLDER/NAME.json``.

    Returns:
        Its path.
    """
    path = folder / f'{name}.json'
    path.write_text(json.dumps(report, indent=2) + '\n')
    return path
