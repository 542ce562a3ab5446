"""Workers of data loaders that cannot hand over a batch, as where /dev/shm is full."""

import errno
import os
import traceback
from multiprocessing.queues import Queue

from torch.utils.data import get_worker_info


def end_with_lost_batches() -> None:
    """Lets a worker end that cannot hand over a batch, and the run with it.

    It would go on otherwise, and the run would wait for that batch forever. The status of a worker
    that had no room in shared memory is ENOSPC.
    """
    # concurrent.futures replaces it as well, of a queue of its own; PyTorch makes the queues here.
    Queue._on_queue_feeder_error = staticmethod(_end)


def _end(error: Exception, _: object) -> None:
    """Called in the thread of a queue that sends what the process has made."""
    if get_worker_info() is not None and os.strerror(errno.ENOSPC) in str(error):
        os._exit(errno.ENOSPC)
    traceback.print_exception(error)
    if get_worker_info() is not None:
        os._exit(1)
