"""BANet in minutes on a CPU: generate scenes, train, evaluate two ways of fusion, draw both.

``make demo`` runs this after the set-up. An interrupted run is resumed; a finished one is evaluated
again. The pictures show the validation images on which the two ways differ most.
"""

from mmbanet.cli import run_tool

if __name__ == '__main__':
    run_tool(__file__, 'the same command goes on where it stopped')

import json
import time
import warnings
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmbanet.apis import evaluate, read_image
from mmbanet.cli.arguments import argument_parser
from mmbanet.datasets import load_panoptic_map
from mmbanet.engine.fingerprints import differences, training_fingerprint
from mmbanet.engine.launch import load_config
from mmbanet.engine.work_folder import locked, resume
from mmbanet.scenes import generate_scenes
from mmbanet.visualization import class_palette, colorize, draw_grid, write_picture

CONFIG = Path(__file__).parents[1] / 'configs' / 'banet' / 'banet_r18_fpn_scenes.py'
# Order rules of the fusion head by name; both read the same checkpoint.
RULES = {'heuristic': None, 'occlusion-aware': dict(type='mmbanet.MeanColor')}
SUBSETS = ('', '_th', '_st')  # all classes, things, stuff, as the metric names them
ROWS_PER_PICTURE, PICTURES = 4, 2


class PanopticMaps(Hook):
    """Keeps the panoptic map of every test image, by image path."""

    def __init__(self) -> None:
        self.maps: dict[str, np.ndarray] = {}

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Collects one batch."""
        for sample in outputs:
            self.maps[sample.img_path] = sample.pred_panoptic_seg.sem_seg[0].cpu().numpy()


class Progress(Hook):
    """One line every now and then in place of the runner's log."""

    def __init__(self, interval: int = 20) -> None:
        self.interval = interval

    def before_train(self, runner) -> None:
        """Starts the clock."""
        self.start, self.first = time.monotonic(), runner.iter

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Prints the iteration, its loss and the time that is left."""
        done = runner.iter + 1
        if done % self.interval == 0 or done == runner.max_iters:
            pace = (time.monotonic() - self.start) / (done - self.first)
            left = pace * (runner.max_iters - done)
            print(
                f'  iteration {done}/{runner.max_iters}, loss {outputs["loss"].item():.2f}, '
                f'{left / 60:.1f} min left',
                flush=True,
            )


def main() -> None:
    """Runs the steps; each says what it does and how long it took."""
    parser = argument_parser(__doc__, str(CONFIG), 'work_dirs/demo')
    parser.set_defaults(data_root='data/scenes')
    parser.add_argument(
        '--images', type=int, nargs=2, default=(1000, 200), metavar=('TRAIN', 'VAL')
    )
    args = parser.parse_args()
    # Of other packages, about what a user of the demo cannot change.
    warnings.filterwarnings('ignore', module=r'(mm|torch)')
    cfg = load_config(args)
    cfg.log_level = 'WARNING'

    with Step(f'generating {args.images[0]} + {args.images[1]} scenes in {args.data_root}'):
        generate_scenes(Path(args.data_root), train=args.images[0], val=args.images[1])
    with Step(f'training for {cfg.train_cfg.max_iters} iterations in {args.work_dir}'):
        checkpoint = train(cfg)
    scores, maps = {}, {}
    for name in RULES:
        with Step(f'evaluating {Path(checkpoint).name} with {name} fusion'):
            scores[name], maps[name] = fuse(cfg, checkpoint, name)
    print_scores(scores)
    with Step('drawing'):
        for path in draw(cfg, maps, Path(args.work_dir)):
            print(f'  {path}')


class Step:
    """Prints what begins and how long it took."""

    count = 0

    def __init__(self, text: str) -> None:
        Step.count += 1
        self.text = text

    def __enter__(self) -> None:
        self.start = time.monotonic()
        print(f'demo {Step.count}/5: {self.text}', flush=True)

    def __exit__(self, kind, *_) -> None:
        if kind is None:
            print(f'  done in {time.monotonic() - self.start:.0f} s', flush=True)


def train(cfg: Config) -> str:
    """Trains, or goes on where an earlier run stopped.

    Returns:
        The final checkpoint's path.

    Raises:
        ValueError: The work folder holds a training with another config, or on other data.
    """
    cfg = cfg.copy()
    fingerprint = training_fingerprint(cfg)
    record = Path(cfg.work_dir) / 'fingerprint.json'
    if record.exists() or any(record.parent.glob('iter_*.pth')):
        found = json.loads(record.read_text()) if record.exists() else {}
        changed = differences(found, fingerprint)
        if changed:
            raise ValueError(
                f'{cfg.work_dir} holds a training of something else (changed: '
                f'{", ".join(changed)}): delete it, or choose another --work-dir'
            )
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(fingerprint))
    final = record.with_name(f'iter_{cfg.train_cfg.max_iters}.pth')
    if not final.exists():
        # The runner would validate at the end, which the demo does by itself, for both rules.
        cfg.merge_from_dict({f'val_{part}': None for part in ('cfg', 'dataloader', 'evaluator')})
        with locked(cfg.work_dir):
            resume(cfg)
            runner = Runner.from_cfg(cfg)
            runner.register_hook(Progress())
            runner.train()
    else:
        print(f'  {final} is there; delete {cfg.work_dir} to train again')
    return str(final)


def fuse(cfg: Config, checkpoint: str, name: str) -> tuple[dict, dict[str, np.ndarray]]:
    """PQ metrics and panoptic maps of the validation images with one of ``RULES``."""
    cfg = cfg.copy()
    cfg.model.panoptic_fusion_head.order = RULES[name]
    cfg.work_dir = f'{cfg.work_dir}/{name}'
    cfg.experiment_name = f'demo_{name}'
    maps = PanopticMaps()
    return evaluate(cfg, checkpoint, [maps]), maps.maps


def print_scores(scores: dict[str, dict]) -> None:
    """One table: a line for each way of fusion, PQ, SQ and RQ for all, things and stuff.

    The last column is the share of truly occluded pairs that were ordered rightly, in percent.
    """
    keys = [f'{metric}{subset}' for subset in SUBSETS for metric in ('PQ', 'SQ', 'RQ')]
    print(f'\n{"fusion":<16}' + ''.join(f'{key:>7}' for key in (*keys, 'order')))
    for name, score in scores.items():
        values = [score[f'coco_panoptic/{key}'] for key in keys] + [score['occlusion/accuracy']]
        print(f'{name:<16}' + ''.join(f'{value:>7.1f}' for value in values))
    print('(generated validation scenes, the same checkpoint in both lines)\n', flush=True)


def draw(cfg: Config, maps: dict[str, dict[str, np.ndarray]], folder: Path) -> list[Path]:
    """Grids of image, both results and ground truth, for the images that differ most."""
    dataset = Runner.build_dataloader(cfg.val_dataloader).dataset
    infos = {info['img_path']: info for info in map(dataset.get_data_info, range(len(dataset)))}
    heuristic, aware = (maps[name] for name in RULES)
    ranked = sorted(infos, key=lambda path: (heuristic[path] != aware[path]).mean(), reverse=True)

    palette = class_palette(dataset.metainfo)
    rows = []
    for path in ranked[: ROWS_PER_PICTURE * PICTURES]:
        image = read_image(path)[:, :, ::-1]
        panoptic = [heuristic[path], aware[path], load_panoptic_map(infos[path])]
        rows.append([image, *(colorize(segments, palette) for segments in panoptic)])
    titles = ['image', *RULES, 'ground truth']
    paths = []
    for i in range(0, len(rows), ROWS_PER_PICTURE):
        paths.append(folder / f'panoptic_{i // ROWS_PER_PICTURE + 1}.png')
        grid = draw_grid(rows[i : i + ROWS_PER_PICTURE], titles)
        write_picture(paths[-1], grid)
    return paths
