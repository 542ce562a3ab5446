"""A model's network as ONNX: ``mmbanet export CONFIG CHECKPOINT --out model.onnx``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmbanet.cli.arguments import CfgOptions, output_file
from mmbanet.cli.tool import quiet_imports
from mmbanet.messages import check_found

EPILOG = """
The file has the whole network up to fusion, for one image of any size: boxes, classes, masks and
semantic logits. docs/export.md says what its outputs are and what comes after them. It is compared
with torch before it is written. Needs pip install 'mmbanet[onnx]'. mmdet users know it from
mmdeploy.

  mmbanet export configs/banet/banet_r50_fpn_1x_coco.py banet.pth --out banet.onnx
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the arguments and exports."""
    parser = argparse.ArgumentParser(
        prog='mmbanet export',
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', help='file, or mmdet::NAME or mmbanet::NAME of what comes along')
    parser.add_argument('checkpoint', help='file or URL')
    parser.add_argument('--out', required=True, type=output_file, help='file to write')
    parser.add_argument('--cfg-options', action=CfgOptions, help='overrides of the config')
    args = parser.parse_args(argv)
    check_found('config', args.config)
    check_found('checkpoint', args.checkpoint)
    with quiet_imports():
        from mmbanet.apis import init_model
        from mmbanet.apis.export import export_onnx
    model = init_model(args.config, args.checkpoint, 'cpu', args.cfg_options)
    differences = export_onnx(model, Path(args.out))
    name = max(differences, key=differences.get)
    print(
        f'{len(differences)} outputs: {args.out}; none differs from torch by more than '
        f'{differences[name]:.1e} of its largest value ({name})'
    )
