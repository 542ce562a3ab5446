"""Evaluate a checkpoint: ``python tools/test.py CONFIG CHECKPOINT``."""

import os.path as osp

from mmengine.runner import Runner

from mmbanet.engine.launch import argument_parser, load_config


def main() -> None:
    """Parses the arguments and runs MMEngine's test loop."""
    parser = argument_parser(description=__doc__)
    parser.add_argument('checkpoint', help='checkpoint file, or a URL')
    args = parser.parse_args()
    if '://' not in args.checkpoint and not osp.isfile(args.checkpoint):
        raise FileNotFoundError(f'checkpoint not found: {osp.abspath(args.checkpoint)}')

    cfg = load_config(args)
    if args.amp:
        cfg.test_cfg.fp16 = True
    cfg.load_from = args.checkpoint
    Runner.from_cfg(cfg).test()


if __name__ == '__main__':
    main()
