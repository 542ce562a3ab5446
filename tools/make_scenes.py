"""Generate scenes in COCO's panoptic format: ``python tools/make_scenes.py --out data/scenes``."""

import argparse
from concurrent.futures import BrokenExecutor

from mmbanet.datasets.scenes import generate_scenes


def main() -> None:
    """Parses the arguments and generates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', required=True, help='folder of the data set')
    parser.add_argument('--train', type=int, default=1000, help='training images')
    parser.add_argument('--val', type=int, default=200, help='validation images')
    parser.add_argument('--size', type=int, default=128, help='side in pixels, at least 64')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--workers', type=int, help='processes (default: all cores)')
    parser.add_argument('--overwrite', action='store_true', help='replace other scenes there')
    args = vars(parser.parse_args())
    try:
        root = generate_scenes(args.pop('out'), **args)
    except (ValueError, OSError, BrokenExecutor) as error:
        parser.exit(2, f'{parser.prog}: error: {error}\n')
    except KeyboardInterrupt:
        parser.exit(130, f'\n{parser.prog}: interrupted, nothing was kept\n')
    print(f'scenes are in {root}')


if __name__ == '__main__':
    main()
