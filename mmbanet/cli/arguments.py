"""Arguments that several commands take."""

import argparse
import math
import os
from pathlib import Path


def setting(text: str) -> str:
    """For ``argparse``: one KEY=VALUE.

    Raises:
        ArgumentTypeError: It is none.
    """
    if '=' not in text:
        raise argparse.ArgumentTypeError(f'expected KEY=VALUE, got {text!r}')
    return text


def share(text: str) -> float:
    """For ``argparse``: a number of 0 to 1.

    Raises:
        ArgumentTypeError: It is none.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f'expected a number of 0 to 1, got {text!r}')
    return number


def count(text: str) -> int:
    """For ``argparse``: how many, 0 at least.

    Raises:
        ArgumentTypeError: It is no such number.
    """
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f'expected a whole number, 0 at least, got {text!r}')
    return int(text)


class CfgOptions(argparse.Action):
    """MMEngine's ``DictAction``, which is imported once it is needed."""

    def __init__(self, *names, **options) -> None:
        super().__init__(*names, nargs='+', type=setting, metavar='KEY=VALUE', **options)

    def __call__(self, *arguments) -> None:
        """Adds KEY=VALUE ... to the namespace."""
        from mmengine.config import DictAction

        DictAction(self.option_strings, self.dest)(*arguments)


def argument_parser(
    description: str, default_config: str | None = None, default_work_dir: str | None = None
) -> argparse.ArgumentParser:
    """Parser with the arguments that ``tools/train.py`` and ``tools/test.py`` have in common."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'config', nargs='?' if default_config else None, default=default_config, help='config file'
    )
    parser.add_argument(
        '--work-dir',
        default=default_work_dir,
        help=f'folder for logs and checkpoints (default: {default_work_dir or "work_dirs/CONFIG"})',
    )
    parser.add_argument(
        '--cfg-options',
        action=CfgOptions,
        help='overrides of the config, for example model.backbone.init_cfg=None',
    )
    parser.add_argument('--data-root', help="folder of the data set, in place of the config's")
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision (GPU)')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    # torch.distributed.launch passes this argument, torchrun sets the environment variable.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    return parser


def check_folder(folder: Path) -> None:
    """Raises a NotADirectoryError if what is to be a folder, old or new, is something else."""
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f'{folder} is not a folder: another --out')


def check_empty(folder: Path) -> None:
    """Raises a FileExistsError if what is to be a new folder is there with something in it."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f'{folder} is there and not empty: another --out')


def output_file(text: str) -> Path:
    """For ``argparse``: a file that is written at the end; that it can be is checked now.

    Creates its folder.

    Raises:
        ArgumentTypeError: It is a folder, or cannot be written.
    """
    path = Path(text)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise argparse.ArgumentTypeError(f'cannot create its folder: {error}') from error
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        what = 'a folder' if path.is_dir() else 'not writable'
        raise argparse.ArgumentTypeError(f'expected a file to be written, {path} is {what}')
    return path
