"""Evaluate a model: ``python tools/test.py CONFIG CHECKPOINT``.

A model whose parts bring their own checkpoints (``mmbanet.InstanceSemanticFusion``) needs none.
"""

from mmbanet.cli import run_tool

if __name__ == '__main__':
    run_tool(__file__, 'no metrics were written, the same command starts again')

import json
import os.path as osp
from functools import partial

from mmengine.dist import is_main_process
from mmengine.runner import Runner

from mmbanet.engine.checkpoints import load_whole
from mmbanet.engine.launch import argument_parser, load_config, output_file


def main() -> None:
    """Parses the arguments and runs MMEngine's test loop."""
    parser = argument_parser(description=__doc__)
    parser.add_argument('checkpoint', nargs='?', help='checkpoint file, or a URL')
    parser.add_argument(
        '--out', type=output_file, metavar='JSON', help='also write the metrics there'
    )
    args = parser.parse_args()
    given = args.checkpoint
    if given is not None and '://' not in given and not osp.isfile(given):
        raise FileNotFoundError(f'checkpoint not found: {osp.abspath(given)}')

    cfg = load_config(args)
    if args.amp:
        cfg.test_cfg.fp16 = True
    cfg.load_from = args.checkpoint
    runner = Runner.from_cfg(cfg)
    runner.load_checkpoint = partial(load_whole, runner.load_checkpoint)
    metrics = runner.test()
    if args.out and is_main_process():
        args.out.write_text(json.dumps(metrics, indent=1) + '\n')
