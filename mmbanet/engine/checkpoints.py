"""Loading checkpoints: MMEngine's own with torch 2.6 and newer, and only those of the model."""

import os.path as osp
from collections.abc import Callable
from os import PathLike

import numpy as np
import torch
from mmengine.logging import HistoryBuffer


def allow_mmengine_checkpoints() -> None:
    """Lets ``torch.load(weights_only=True)`` read what MMEngine puts into its checkpoints.

    They hold the log's history as objects beside the weights, which torch refuses by default since
    2.6. The maintained line of MMEngine allows them by itself, with the same list; OpenMMLab's
    0.10.7 does not, and could not resume from or test a checkpoint of its own. Nothing else of a
    checkpoint becomes executable. No effect on older versions of torch.
    """
    if not hasattr(torch.serialization, 'add_safe_globals'):
        return
    core = np.core if np.lib.NumpyVersion(np.__version__) < '2.0.0' else np._core
    dtypes = [type(np.dtype(kind)) for kind in (np.uint32, np.int64, np.float64)]
    torch.serialization.add_safe_globals(
        [
            HistoryBuffer,
            getattr,  # the buffer's methods are pickled by name
            slice,
            np.ndarray,
            np.dtype,
            core.multiarray._reconstruct,
            core.multiarray.scalar,
            *dtypes,
        ]
    )


def check_checkpoint(checkpoint: str | PathLike | None) -> None:
    """Raises a FileNotFoundError for a file that is not there; None and URLs pass."""
    if checkpoint is None or '://' in str(checkpoint) or osp.isfile(checkpoint):
        return
    raise FileNotFoundError(f'checkpoint not found: {osp.abspath(checkpoint)}')


def load_whole(load: Callable, checkpoint: str, **arguments) -> object:
    """Loads a checkpoint that has to be the model's, of which MMEngine would take what fits.

    Args:
        load: MMEngine's ``Runner.load_checkpoint``, or its ``load_checkpoint`` of a model.
        checkpoint: File or URL.
        arguments: Of ``load``.

    Returns:
        What ``load`` returns.

    Raises:
        ValueError: It is a checkpoint of another model; names weights that differ.
    """
    try:
        return load(checkpoint, strict=True, **arguments)
    except RuntimeError as error:
        if 'do not match exactly' not in str(error):
            raise
        differences = [line for line in str(error).splitlines()[1:] if line.strip()]
        short = [line if len(line) <= 160 else line[:157] + '...' for line in differences[:3]]
        raise ValueError(
            f'{checkpoint} is a checkpoint of another model: {"; ".join(short)}'
        ) from error
