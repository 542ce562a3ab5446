"""Train a model: ``python tools/train.py configs/banet/banet_r50_fpn_1x_coco.py``."""

from mmbanet.cli import quiet_imports, run_tool

if __name__ == '__main__':
    run_tool(__file__, 'the same command with --resume goes on from the last checkpoint')

from mmbanet.cli.arguments import argument_parser
from mmbanet.messages import check_found


def main() -> None:
    """Parses the arguments and runs MMEngine's training loop."""
    parser = argument_parser(description=__doc__)
    parser.add_argument(
        '--auto-scale-lr', action='store_true', help='scale the learning rate to the batch size'
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='resume from a checkpoint, or from the newest good one in the work folder',
    )
    args = parser.parse_args()
    check_found('config', args.config)
    with quiet_imports():
        from mmengine.runner import Runner

        from mmbanet.apis.settled_classes import settle_classes
        from mmbanet.engine.launch import load_config
        from mmbanet.engine.load_fitting_hook import LoadFittingHook
        from mmbanet.engine.work_folder import check_unused, locked, resume
    cfg = load_config(args)
    settle_classes(cfg)
    if args.amp:
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.loss_scale = 'dynamic'
    if args.auto_scale_lr:
        if 'auto_scale_lr' not in cfg:
            parser.error('--auto-scale-lr: the config has no auto_scale_lr.base_batch_size')
        cfg.auto_scale_lr.enable = True
    with locked(cfg.work_dir):
        if args.resume:
            resume(cfg, None if args.resume == 'auto' else args.resume)
        else:
            check_unused(cfg)
        check_found('load_from', cfg.get('load_from') or None)
        runner = Runner.from_cfg(cfg)
        if cfg.get('load_from') and not cfg.get('resume'):
            # Before the hook of averaged weights, which starts with those that are loaded.
            runner.register_hook(LoadFittingHook(), priority='HIGHEST')
        runner.train()
