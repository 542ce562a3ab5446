"""Make a checkpoint ready to be published: ``python tools/publish.py CONFIG CHECKPOINT --out DIR``.

Writes, as OpenMMLab's projects do,

* ``DIR/CONFIG_TIME-HASH.pth``: weights and what prediction needs to know (classes), without
  optimizer, schedule and log; TIME is the training's end, HASH the first eight digits of the file's
  SHA-256, which torch.hub compares when it downloads with ``check_hash``;
* ``DIR/CONFIG_TIME-HASH.yml``: its entry in a metafile, with what ``tools/test.py --out`` wrote.

mmdet users know it as tools/model_converters/publish_model.py.
"""

from mmbanet.cli import run_tool

if __name__ == '__main__':
    run_tool(__file__, 'nothing half-written was kept, start it again')

import argparse
import hashlib
import json
import time
from pathlib import Path

import mmengine
import torch
import yaml
from mmengine.config import Config

from mmbanet.apis import init_model
from mmbanet.datasets.panoptic_files import write_whole
from mmbanet.engine.checkpoints import read_checkpoint
from mmbanet.engine.launch import read_config

# What is kept of a checkpoint's description of itself.
KEPT = ('dataset_meta', 'epoch', 'iter', 'seed', 'cfg')
# Data sets by the name of their folder.
DATA_SETS = dict(coco='COCO', camvid='CamVid')
# Metrics of an entry, by task: names there, and in what tools/test.py writes.
QUALITIES = [f'{name}{group}' for group in ('', '_th', '_st') for name in ('PQ', 'SQ', 'RQ')]
TASKS = {
    'Panoptic Segmentation': {name: f'coco_panoptic/{name}' for name in QUALITIES},
    'Instance Segmentation': {'mask AP': 'coco_panoptic/AP_mask'},
}


def main() -> None:
    """Parses the arguments, checks the checkpoint, writes both files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='that it was trained with')
    parser.add_argument('checkpoint', type=Path, help='of tools/train.py')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR')
    parser.add_argument('--metrics', type=Path, metavar='JSON', help='what tools/test.py measured')
    parser.add_argument('--url', default='', help='where the file will be (default: its name)')
    args = parser.parse_args()

    cfg = read_config(args.config)
    metrics = json.loads(args.metrics.read_text()) if args.metrics else {}
    weights = read_weights(args.checkpoint)
    init_model(cfg, args.checkpoint)  # refuses a checkpoint of another model
    published = write_weights(weights, Path(args.config).stem, args.out)
    entry = metafile_entry(cfg, args.config, metrics, args.url + published.name)
    text = yaml.safe_dump([entry], sort_keys=False, allow_unicode=True)
    write_whole(published.with_suffix('.yml'), lambda path: path.write_text(text))
    print(f'{text}\nwritten: {published} ({published.stat().st_size / 1e6:.0f} MB), .yml')


def write_weights(content: dict, name: str, folder: Path) -> Path:
    """Writes them under their final name, once they are complete; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f'{name}.partial'
    try:
        torch.save(content, partial)
        digest = hashlib.sha256(partial.read_bytes()).hexdigest()[:8]
        return partial.rename(folder / f'{name}_{content["meta"]["time"]}-{digest}.pth')
    finally:
        partial.unlink(missing_ok=True)


def read_weights(checkpoint: Path) -> dict:
    """What is published of a checkpoint; of a model with moving averages, these are its weights.

    Raises:
        FileNotFoundError, ValueError: As :func:`read_checkpoint`.
    """
    content = read_checkpoint(checkpoint)
    known = content.get('meta', {})
    meta = {name: known[name] for name in KEPT if name in known}
    written = time.strftime('%Y%m%d_%H%M%S', time.gmtime(checkpoint.stat().st_mtime))
    meta |= dict(time=known.get('time', written), mmengine_version=mmengine.__version__)
    return dict(meta=meta, state_dict=content['state_dict'])


def metafile_entry(cfg: Config, config: str, metrics: dict[str, float], weights: str) -> dict:
    """The entry of a model in a metafile; metrics that were not measured are left out."""
    folder, results = Path(cfg.data_root).name, []
    for task, names in TASKS.items():
        found = {name: round(metrics[key], 1) for name, key in names.items() if key in metrics}
        if found:
            data_set = DATA_SETS.get(folder, folder)
            results.append(dict(Task=task, Dataset=data_set, Metrics=found))
    loop = cfg.train_cfg
    of_epochs = 'max_epochs' in loop
    length = dict(Epochs=loop.max_epochs) if of_epochs else dict(Iterations=loop.max_iters)
    return {
        'Name': Path(config).stem,
        'In Collection': collection_of(cfg, config),
        'Config': config,
        'Metadata': length,
        'Results': results,
        'Weights': weights,
    }


def collection_of(cfg: Config, config: str) -> str:
    """The collection in the metafile beside the config, else the name of the model's class."""
    metafile = Path(config).with_name('metafile.yml')
    if metafile.is_file():
        return yaml.safe_load(metafile.read_text())['Collections'][0]['Name']
    return cfg.model.type.rpartition('.')[2]
