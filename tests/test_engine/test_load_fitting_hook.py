"""What a training takes of a checkpoint of other classes, and what it says of the rest."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.runner import Runner
from torch import nn

from mmbanet.engine import load_fitting_hook
from mmbanet.engine.load_fitting_hook import LoadFittingHook


class Model(nn.Module):
    """A backbone, a classifier and, perhaps, another head."""

    def __init__(self, classes: int, head: str) -> None:
        super().__init__()
        self.backbone = nn.Linear(3, 4)
        self.classifier = nn.Linear(4, classes)
        self.add_module(head, nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))


@pytest.fixture
def said(monkeypatch) -> list[str]:
    said = []
    monkeypatch.setattr(load_fitting_hook, 'print_log', lambda text, **_: said.append(text))
    return said


class Data(torch.utils.data.Dataset):
    """A training set of three classes."""

    def __init__(self) -> None:
        self.metainfo = dict(
            classes=('cat', 'dog', 'sky'), thing_classes=('cat', 'dog'), stuff_classes=('sky',)
        )

    def __len__(self) -> int:
        return 1


def load(model, checkpoint: dict) -> None:
    loader = SimpleNamespace(dataset=Data())
    runner = SimpleNamespace(model=model, _load_from='coco.pth', train_dataloader=loader)
    LoadFittingHook().after_load_checkpoint(runner, checkpoint)


def test_what_fits_is_taken_and_the_rest_is_listed(said):
    torch.manual_seed(0)
    model, other = Model(5, 'i2s'), Model(81, 'mam')
    checkpoint = dict(state_dict={f'module.{k}': v for k, v in other.state_dict().items()})
    own = {name: value.clone() for name, value in model.state_dict().items()}
    load(model, checkpoint)
    assert checkpoint['state_dict'].keys() == own.keys()
    for name, value in checkpoint['state_dict'].items():
        source = other.state_dict() if name.startswith('backbone') else own
        assert torch.equal(value, source[name]), name
    model.load_state_dict(checkpoint['state_dict'], strict=True)
    assert said == [
        'coco.pth: 2 of the 8 weights are taken over\n'
        '  of another shape, kept as initialised: classifier.weight (81, 4), here (5, 4); '
        'classifier.bias (81,), here (5,)\n'
        '  not in the checkpoint, kept as initialised: i2s.0 (2); i2s.1 (2)\n'
        '  not in the model, left out: mam.0 (2); mam.1 (2)'
    ]


def test_a_checkpoint_of_the_model_is_one_line(said):
    model = Model(5, 'i2s')
    load(model, dict(state_dict=dict(model.state_dict())))
    assert said == ['coco.pth: 8 of the 8 weights are taken over']


@pytest.mark.parametrize(
    ('things', 'stuff', 'expected'),
    [
        (('cat', 'horse'), ('ground',), 'horse is now dog; ground is now sky'),
        (('cat', 'dog'), ('sky',), None),
        (('person',), ('sea', 'lake', 'sky'), None),  # another number is another shape
        (('dog', 'cat'), ('sky', 'sea'), 'dog is now cat; cat is now dog'),
        (('cat',), ('sea',), 'sea is now sky'),
    ],
)
def test_other_classes_of_the_same_number_are_said(said, things, stuff, expected):
    model = Model(3, 'i2s')
    trained = dict(classes=(*things, *stuff), thing_classes=things, stuff_classes=stuff)
    meta = dict(dataset_meta=trained)
    load(model, dict(state_dict=dict(model.state_dict()), meta=meta))
    lines = ['coco.pth: 8 of the 8 weights are taken over']
    if expected:
        lines.append(f'  as many classes, of other names, which keep their weights: {expected}')
    assert said == ['\n'.join(lines)]


def test_a_checkpoint_of_something_else_is_refused(said):
    with pytest.raises(ValueError, match=r'coco\.pth: .* no weight of it fits'):
        load(Model(5, 'i2s'), dict(state_dict=dict(weight=torch.zeros(2))))


def test_the_runner_calls_it_before_it_loads(tmp_path, said):
    """As tools/train.py registers it: MMEngine itself would say it again, and at length."""
    other = Model(81, 'mam')
    torch.save(dict(state_dict=other.state_dict()), tmp_path / 'coco.pth')
    model = Model(5, 'i2s')
    path = str(tmp_path / 'coco.pth')
    runner = Runner(
        model,
        str(tmp_path),
        train_dataloader=torch.utils.data.DataLoader(Data()),
        train_cfg=dict(by_epoch=False, max_iters=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        load_from=path,
        default_scope='mmengine',
    )
    runner.register_hook(LoadFittingHook(), priority='HIGHEST')
    runner.build_train_loop(runner.train_loop)
    runner.load_or_resume()
    assert torch.equal(model.backbone.weight, other.backbone.weight)
    assert len(said) == 1
