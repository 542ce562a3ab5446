"""What users are told alike everywhere; light, so that a command can tell it at once."""

import os.path as osp
from os import PathLike


def check_found(what: str, path: str | PathLike | None) -> None:
    """Raises a FileNotFoundError for a file or folder that is not there.

    None, URLs and names of configs that come along (``mmdet::NAME``) pass.

    Args:
        what: What it should be, such as 'checkpoint'.
        path: What was named.
    """
    if path is None or '://' in str(path) or '::' in str(path) or osp.exists(path):
        return
    raise FileNotFoundError(f'{what} not found: {osp.abspath(path)}')


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Such as '1 image' and '2 images'; ``plural`` where an s is not enough."""
    return f'{number} {noun if number == 1 else plural or noun + "s"}'
