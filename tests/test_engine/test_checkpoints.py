import numpy as np
import torch
from mmengine.logging import HistoryBuffer

from mmbanet.engine.checkpoints import allow_mmengine_checkpoints


def test_history_of_the_log_loads_as_weights_only(tmp_path):
    buffer = HistoryBuffer()
    for value in (1.0, 2.0):
        buffer.update(value)
    torch.save({'message_hub': {'loss': buffer}, 'meta': np.float64(3)}, tmp_path / 'a.pth')
    before = torch.serialization.get_safe_globals()
    try:
        allow_mmengine_checkpoints()
        loaded = torch.load(tmp_path / 'a.pth', weights_only=True)
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)
    assert loaded['message_hub']['loss'].mean() == 1.5
