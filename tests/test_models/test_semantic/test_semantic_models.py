import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from PIL import Image

from .. import families
from ..families import COUNTS

META = dict(
    img_path='images/a.jpg', ori_shape=(6, 8), img_shape=(12, 16), batch_input_shape=(32, 32)
)
INPUTS = torch.zeros(1, 3, 32, 32)


def folder_model(folder, **kwargs):
    cfg = dict(type='mmbanet.SemanticPredictionFolder', folder=str(folder), **COUNTS)
    return MODELS.build(cfg | kwargs)


def labels_of_all_kinds() -> np.ndarray:
    """Each value of 0..15 and some far beyond; 13 classes."""
    labels = np.arange(48).reshape(6, 8) % 16
    labels[0, :3] = 255, 200, 13
    return labels


def expected_of_all_kinds() -> list:
    return [[min(int(v), 13) for v in row] for row in labels_of_all_kinds()]


def save_png(path, dtype=np.uint8):
    Image.fromarray(labels_of_all_kinds().astype(dtype)).save(path)


def save_palette_png(path):
    image = Image.fromarray(labels_of_all_kinds().astype(np.uint8), mode='P')
    image.putpalette([i * 7 % 256 for i in range(768)])
    image.save(path)


def save_npy(path):
    labels = labels_of_all_kinds()
    labels[labels == 255] = -1
    np.save(path, labels)


@pytest.mark.parametrize(
    ('suffix', 'save'),
    [
        ('.png', save_png),
        ('_labels.png', lambda path: save_png(path, np.uint16)),
        ('.png', save_palette_png),
        ('.npy', save_npy),
    ],
)
def test_labels_as_they_stand_in_the_file(tmp_path, suffix, save):
    save(tmp_path / f'a{suffix}')
    model = folder_model(tmp_path, suffix=suffix)
    (labels,) = model.predict(INPUTS, [META], rescale=True)
    assert labels.dtype == torch.int32
    assert labels.tolist() == [expected_of_all_kinds()]
    (labels,) = model.predict(INPUTS, [META], rescale=False)
    assert labels.dtype == torch.int32
    twice = np.array(expected_of_all_kinds()).repeat(2, axis=0).repeat(2, axis=1)
    assert labels.tolist() == [twice.tolist()]


def test_wrong_size_names_file_and_sizes(tmp_path):
    save_png(tmp_path / 'a.png')
    model = folder_model(tmp_path)
    with pytest.raises(ValueError, match=r'a\.png: the class map is 6x8, .*a\.jpg is 8x6'):
        model.predict(INPUTS, [META | dict(ori_shape=(8, 6))], rescale=True)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=str(tmp_path / 'a.png')):
        folder_model(tmp_path).predict(INPUTS, [META], rescale=True)


@pytest.mark.parametrize('content', [np.zeros((6, 8, 3), np.uint8), np.zeros((6, 8), np.float32)])
def test_file_that_is_no_class_map(tmp_path, content):
    np.save(tmp_path / 'a.npy', content)
    with pytest.raises(ValueError, match=r'a\.npy: .* one integer per pixel .* got shape'):
        folder_model(tmp_path, suffix='.npy').predict(INPUTS, [META], rescale=True)


def test_colour_image_is_no_class_map(tmp_path):
    Image.new('RGB', (8, 6)).save(tmp_path / 'a.png')
    with pytest.raises(ValueError, match=r'a\.png: .* got shape \(6, 8, 3\)'):
        folder_model(tmp_path).predict(INPUTS, [META], rescale=True)


def test_lossy_suffix_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"suffix must end in \.png or \.npy, got '\.jpg'"):
        folder_model(tmp_path, suffix='.jpg')


def test_image_without_a_path(tmp_path):
    with pytest.raises(ValueError, match='img_path'):
        folder_model(tmp_path).predict(INPUTS, [META | dict(img_path=None)], rescale=True)


@pytest.mark.parametrize('rescale', [True, False])
@pytest.mark.parametrize(
    ('head', 'first_label'), [('PanopticFPNHead', 8), ('mmbanet.SemanticFeatureHead', 0)]
)
def test_segmentor_of_both_layouts(head, first_label, rescale):
    cfg = families.semantic_segmentor()
    cfg.semantic_head = dict(
        type=head, in_channels=64, norm_cfg=dict(type='GN', num_groups=8), **COUNTS
    )
    model = MODELS.build(cfg).eval()
    meta = META | dict(ori_shape=(40, 100), img_shape=(48, 70), batch_input_shape=(64, 96))
    inputs = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        weight = model.semantic_head.conv_logits.weight
        weight.sub_(weight.mean(1, keepdim=True))
        (labels,) = model.predict(inputs, [meta], rescale)
        logits = model.semantic_head(model.neck(model.backbone(inputs)))['seg_preds']
    logits = F.interpolate(logits, size=(64, 96), mode='bilinear')[..., :48, :70]
    if rescale:
        logits = F.interpolate(logits, size=(40, 100), mode='bilinear')
    expected = logits.argmax(1) + first_label
    assert expected.unique().numel() > 2
    assert (labels != expected).float().mean() < 0.002  # rounding


def test_segmentor_without_things_and_stuff():
    cfg = families.semantic_segmentor()
    cfg.semantic_head = dict(type='FCNMaskHead')
    with pytest.raises(TypeError, match=r'semantic_head: .*PanopticFPNHead.* got FCNMaskHead'):
        MODELS.build(cfg)
