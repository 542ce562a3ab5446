"""``mmbanet predict`` against mmdet's ``DetInferencer``, with the same model on the same folder.

    python tools/benchmarks/predict.py CONFIG CHECKPOINT FOLDER

Both read the images, predict, draw, and write a picture, a map and a JSON file of each. They take
turns, in processes of their own; time of loading the model is left out. Prints a Markdown table and
writes it as JSON.
"""

from mmbanet.cli import run_tool

if __name__ == '__main__':
    run_tool(__file__, 'nothing was written, the same command starts again')

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import make_report, parse_arguments, write_report
from mmdet.apis import DetInferencer

from mmbanet.apis import PanopticInferencer
from mmbanet.apis.image_sources import find_images
from mmbanet.cli.work.predict import Work

OURS, THEIRS = 'mmbanet predict', 'DetInferencer'


def main() -> None:
    """Measures and writes the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument('folder', type=Path, help='of images')
    parser.add_argument('--images', type=int, default=200, help='at most so many')
    parser.add_argument('--rounds', type=int, default=3, help='the median counts')
    parser.add_argument('--run', choices=(OURS, THEIRS), help=argparse.SUPPRESS)
    args = parse_arguments(parser)
    if args.run:
        print(json.dumps(run(args.run, args)))
        return

    seconds = {OURS: [], THEIRS: []}
    for _ in range(args.rounds):
        for name, found in seconds.items():
            command = [sys.executable, __file__, *sys.argv[1:], '--run', name]
            found.append(json.loads(subprocess.check_output(command, text=True).splitlines()[-1]))
    images = len(find_images([args.folder])[: args.images])
    report = make_report(
        args.device, config=args.config, images=images, rounds=args.rounds, seconds=seconds
    )
    print('| by | ms an image | times as long |', '|---|---|---|', sep='\n')
    ours = statistics.median(seconds[OURS])
    for name, found in seconds.items():
        median = statistics.median(found)
        print(f'| {name} | {1e3 * median / images:.0f} | {median / ours:.2f} |')
    print(write_report(report, args.out, f'predict_{args.device}'))


def run(name: str, args: argparse.Namespace) -> float:
    """Seconds that all images take."""
    found = find_images([args.folder])[: args.images]
    with tempfile.TemporaryDirectory() as out:
        if name == OURS:
            inferencer = PanopticInferencer(args.config, args.checkpoint, args.device)
            work = Work(inferencer, Path(out), batch_size=1, pictures=True)
            start = time.perf_counter()
            work.run(found)
        else:
            inferencer = DetInferencer(
                args.config, args.checkpoint, args.device, show_progress=False
            )
            start = time.perf_counter()
            for item in found:
                inferencer(str(item.entry), out_dir=out, no_save_pred=False)
        return time.perf_counter() - start
