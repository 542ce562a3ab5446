"""Loading MMEngine's own checkpoints with torch 2.6 and newer."""

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
