"""Kinds of arguments that several commands take."""

import argparse
import os
from pathlib import Path


class CfgOptions(argparse.Action):
    """MMEngine's ``DictAction``, which is imported once it is needed."""

    def __call__(self, *arguments) -> None:
        """Adds KEY=VALUE ... to the namespace."""
        from mmengine.config import DictAction

        DictAction(self.option_strings, self.dest)(*arguments)


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
