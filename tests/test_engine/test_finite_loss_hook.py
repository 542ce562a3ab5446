"""Losses that are not finite: named, and kept from the weights, with any number of ranks."""

import json
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.dist import get_rank
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mmbanet.engine import FiniteLossHook

from ..conftest import run_on_two_ranks

BAD = {'nan': float('nan'), 'inf': float('inf')}


class Numbers(Dataset):
    """Samples of one number each, in order; the name of an image is its number."""

    metainfo: ClassVar[dict] = {}

    def __init__(self, values: list[float]) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> dict:
        sample = DetDataSample(metainfo=dict(img_path=f'photos/{index}.jpg', img_id=index))
        return dict(inputs=torch.full((4,), float(self.values[index])), data_samples=sample)


class Model(BaseModel):
    """Two losses, one of them as a list, and a running mean that a NaN would spoil for good."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)
        self.norm = nn.BatchNorm1d(2)

    def forward(self, inputs: Tensor, data_samples: list | None = None, mode: str = 'tensor'):
        out = self.norm(self.layer(torch.stack(list(inputs))))
        return dict(
            loss_first=[out.square().mean(), out[:, :1].sum() * 0],
            loss_second=(self.layer.weight.sum() - 1).square(),
            acc=torch.tensor(float('nan')),  # no loss
        )


class Batches:
    """Batches of two samples each, as mmdet's ``pseudo_collate`` makes them."""

    def __init__(self, values: list[float]) -> None:
        self.loader = DataLoader(Numbers(values), batch_size=2, collate_fn=self.collate)

    @staticmethod
    def collate(samples: list[dict]) -> dict:
        return {key: [sample[key] for sample in samples] for key in samples[0]}


def runner_of(values: list[float], tmp_path: Path, hook: dict, **settings) -> Runner:
    torch.manual_seed(0)
    optimizer = torch.optim.SGD(
        (model := Model()).parameters(), lr=0.1, momentum=0.9, weight_decay=0.1
    )
    return Runner(
        model=model,
        work_dir=str(tmp_path),
        train_dataloader=Batches(values).loader,
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=(len(values) + 1) // 2),
        optim_wrapper=OptimWrapper(optimizer, **settings),
        custom_hooks=[dict(type='mmbanet.FiniteLossHook', **hook)],
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1), checkpoint=None),
        log_processor=dict(by_epoch=False),
        default_scope='mmdet',
        # Runs of one name would share it.
        visualizer=dict(
            type='Visualizer', name=str(tmp_path), vis_backends=[dict(type='LocalVisBackend')]
        ),
        experiment_name=str(tmp_path).replace('/', '_'),
    )


def state(runner: Runner) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in runner.model.state_dict().items()}


def losses_logged(tmp_path: Path) -> dict[int, float]:
    (path,) = tmp_path.glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {line['step']: line.get('loss') for line in lines}


@pytest.mark.parametrize('name', BAD)
def test_stops_with_the_names_before_the_weights_change(name, tmp_path):
    expected = runner_of([1, 2, 3, 4], tmp_path / 'expected', {})
    expected.train()
    runner = runner_of([1, 2, 3, 4, 5, BAD[name], 7, 8], tmp_path / 'runner', {})
    with pytest.raises(FloatingPointError) as raised:
        runner.train()
    message = str(raised.value)
    assert message.startswith('iteration 3: loss not finite: loss_first = nan of the images ')
    assert 'photos/4.jpg, photos/5.jpg' in message
    assert 'loss_second' not in message
    assert 'acc' not in message
    weights = dict(runner.model.named_parameters())
    for key, value in expected.model.named_parameters():
        assert torch.equal(weights[key], value), key


def test_weights_that_are_not_finite_are_said_to_be_the_cause(tmp_path):
    runner = runner_of([1, 2], tmp_path, {})
    with torch.no_grad():
        runner.model.layer.bias[1] = float('nan')
    with pytest.raises(FloatingPointError, match=r'; layer\.bias was not finite before: '):
        runner.train()


@pytest.mark.parametrize('accumulative_counts', [1, 2])
def test_a_batch_that_is_left_out_leaves_no_trace(accumulative_counts, tmp_path, caplog):
    nan = float('nan')
    settings = dict(hook=dict(skip=2), accumulative_counts=accumulative_counts)
    expected = runner_of([1, 2, 3, 4, 7, 8, 9, 0], tmp_path / 'expected', **settings)
    expected.train()
    values = [1, 2, 3, 4, nan, 6, 6, nan, 7, 8, 9, 0]
    runner = runner_of(values, tmp_path / 'runner', **settings)
    runner.train()
    found = state(runner)
    for key, value in state(expected).items():
        assert torch.equal(found[key], value), key
    logged = losses_logged(tmp_path / 'runner')
    assert len(logged) == 6
    assert all(loss == loss for loss in logged.values() if loss is not None)
    text = next((tmp_path / 'runner').glob('*/*.log')).read_text()
    assert 'iteration 3: loss not finite' in text
    assert 'photos/6.jpg, photos/7.jpg; the batch is left out' in text
    assert 'update_params' not in vars(runner.optim_wrapper)


def test_stops_after_too_many_in_a_row(tmp_path):
    nan = float('nan')
    runner = runner_of([nan, 1, nan, 1, 2, 3, nan, 1, nan, 2, nan, 3], tmp_path, dict(skip=2))
    with pytest.raises(FloatingPointError, match=r'iteration 6: .*photos/10\.jpg'):
        runner.train()


def test_arguments():
    with pytest.raises(ValueError, match='skip must be at least 0, got -1'):
        FiniteLossHook(skip=-1)


def train_one_rank(folder: Path) -> list[tuple]:
    """With skip=0 and 2, where it ended and the weights."""
    torch.distributed.init_process_group('gloo')
    rank, nan = get_rank(), float('nan')
    # The first rank sees a NaN in its second batch, the other one in its third.
    values = [1, 2, nan, 4, 5, 6, 7, 8] if rank == 0 else [9, 8, 7, 6, 5, nan, 3, 2]
    results = []
    for skip in (0, 2):
        runner = runner_of(values, folder / f'{rank}_{skip}', dict(skip=skip))
        runner.model = MMDistributedDataParallel(runner.model, broadcast_buffers=False)
        try:
            runner.train()
            result = runner.iter
        except FloatingPointError as error:
            result = str(error)
        results.append((result, dict(runner.model.module.named_parameters())))
    return results


@pytest.mark.slow
def test_two_ranks_agree(tmp_path):
    (stopped, skipped), others = run_on_two_ranks(train_one_rank, tmp_path, tmp_path)
    for (_, weights), (_, other) in zip((stopped, skipped), others):
        for name, weight in weights.items():
            assert torch.equal(weight, other[name]), name
            assert weight.isfinite().all()
    assert stopped[0] == others[0][0]
    assert stopped[0].startswith('iteration 2: loss not finite: loss_first = nan of the images')
    assert 'photos/2.jpg, photos/3.jpg' in stopped[0]
    assert skipped[0] == others[1][0] == 4
