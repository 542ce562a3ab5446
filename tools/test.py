"""Evaluate a model: ``python tools/test.py CONFIG CHECKPOINT``.

A model whose parts bring their own checkpoints (``mmbanet.InstanceSemanticFusion``) needs none.
"""

from mmbanet.cli import quiet_imports, run_tool

if __name__ == '__main__':
    run_tool(__file__, 'no metrics were written, the same command starts again')

import json

from mmbanet.cli.arguments import argument_parser, output_file
from mmbanet.messages import check_found


def main() -> None:
    """Parses the arguments and runs MMEngine's test loop."""
    parser = argument_parser(description=__doc__)
    parser.add_argument('checkpoint', nargs='?', help='checkpoint file, or a URL')
    parser.add_argument(
        '--out', type=output_file, metavar='JSON', help='also write the metrics there'
    )
    parser.add_argument(
        '--image-counts',
        type=output_file,
        metavar='NPZ',
        help='also write what PQ counts in each image, for error bars (mmbanet.PanopticMetric)',
    )
    parser.add_argument(
        '--tta', action='store_true', help="average flipped (or tta_pipeline's) views of each image"
    )
    args = parser.parse_args()
    check_found('config', args.config)
    check_found('checkpoint', args.checkpoint)
    with quiet_imports():
        from mmengine.dist import is_main_process

        from mmbanet.apis import evaluate
        from mmbanet.datasets.panoptic_files import write_whole
        from mmbanet.engine.launch import augment_tests, load_config
    cfg = load_config(args)
    if args.amp:
        cfg.test_cfg.fp16 = True
    if args.image_counts:
        evaluators = cfg.test_evaluator
        evaluators = [evaluators] if isinstance(evaluators, dict) else evaluators
        counting = [of for of in evaluators if of['type'] == 'mmbanet.PanopticMetric']
        if not counting:
            raise ValueError('--image-counts: no mmbanet.PanopticMetric in test_evaluator')
        counting[0]['image_counts'] = str(args.image_counts)
    if args.tta:
        augment_tests(cfg)
    metrics = evaluate(cfg, args.checkpoint)
    if args.out and is_main_process():
        write_whole(args.out, lambda path: path.write_text(json.dumps(metrics, indent=1) + '\n'))
