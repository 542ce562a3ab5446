"""BANet against mmdet's panoptic models: ``python tools/benchmarks/compare_models.py``.

All models see the same image, one at a time, and take turns, so that what slows the machine down
slows all of them alike; times are medians over the rounds. Prints two Markdown tables and writes
them with more detail as JSON:

* parameters, multiply-adds of one inference, its time and peak memory (tensors beyond weights and
  image), time and peak memory of a training step (loss, backward pass, optimizer) on one image;
* the time and the multiply-adds of inference by stage.

Inference is ``model.predict`` on the normalised image up to the panoptic map in the size of the
original image. Weights are random unless ``--checkpoint`` gives them, and with random weights so
would be what the later stages have to do. Without a checkpoint the model therefore computes its
proposals and detections, and goes on with fixed ones, the same for all models:

* 1,000 proposals: the objects of the image and boxes of all places, 16 to 512 pixels wide or high;
* ``--detections`` of them, ``--confident`` of which score above 0.6; each model keeps those above
  the score threshold of its own config (0.6 in mmdet's; 0.05 in ours, which serves AP, too);
* in query-based models ``--confident`` queries that are sure of a thing class, and one for each of
  the image's stuff classes.

Multiply-adds (mmdet and fvcore call them FLOPs) are those of convolutions, matrix products and
attention that PyTorch dispatches while the model runs; not counted are element-wise operations,
normalisation, pooling, interpolation, NMS and the sampling inside custom operators (RoIAlign,
RoIInlay, deformable attention). PQ is taken from ``--pq``, a JSON file with a number for each model
that was evaluated; nothing is filled in for the others.
"""

from mmbanet.cli import run_tool

if __name__ == '__main__':
    run_tool(__file__, 'nothing was written, the same command starts again')

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from statistics import median

from compare_inputs import GivenImage, load_scene
from compare_stages import GROUPS, clock, gmacs_by_stage, milliseconds_by_stage
from compare_subjects import NAMED, Subject
from harness import make_report, parse_arguments, write_report
from memory import peak_extra_bytes
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from torch.profiler import ProfilerActivity, profile


def main() -> None:
    """Parses the arguments, measures and writes the results."""
    parser = argument_parser()
    args = parse_arguments(parser)
    init_default_scope('mmdet')
    MMLogger.get_instance('mmengine', log_level='WARNING')
    try:
        pq = read_pq(args.pq) if args.pq else {}
        scene = load_scene(args.image, tuple(args.scale), args.detections, args.confident)
        checkpoints = {name: Path(path) for name, path in args.checkpoint}
        subjects = [
            Subject(name, scene, args.device, checkpoints.pop(name, None)) for name in args.models
        ]
        if checkpoints:
            raise ValueError(
                f'--checkpoint of a model that --models lacks: {", ".join(checkpoints)}'
            )
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))

    report = make_report(
        args.device,
        input=describe(scene, args.image),
        rounds=args.rounds,
        training_steps=args.training_steps,
        models=measure(subjects, args.device, args.rounds, args.training_steps),
    )
    for name, row in report['models'].items():
        row['pq'] = pq.get(name)
    print('\n' + summary_table(report['models']) + '\n\n' + stage_table(report['models']))
    print(f'\n{write_report(report, args.out, f"compare_models_{args.device}")}')


def argument_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--models',
        nargs='+',
        default=list(NAMED),
        metavar='MODEL',
        help=f'{", ".join(NAMED)} (default: all), or configs; ratios are to the first',
    )
    parser.add_argument('--image', type=Path, help='default: an image is drawn')
    parser.add_argument(
        '--scale',
        type=int,
        nargs=2,
        default=(1333, 800),
        metavar=('LONG', 'SHORT'),
        help='longest sides of the resized image',
    )
    parser.add_argument('--detections', type=int, default=30, help='fixed detections')
    parser.add_argument('--confident', type=int, default=15, help='of them above 0.6')
    parser.add_argument(
        '--checkpoint',
        nargs=2,
        action='append',
        default=[],
        metavar=('MODEL', 'FILE'),
        help='trained weights, whose own proposals and detections count; may be repeated',
    )
    parser.add_argument('--pq', type=Path, help='JSON file: {"MODEL": PQ, ...}')
    parser.add_argument('--rounds', type=int, default=5, help='inferences of each model')
    parser.add_argument('--training-steps', type=int, default=2, help='of each model')
    return parser


def read_pq(path: Path) -> dict[str, float]:
    """PQ by model."""
    if not path.is_file():
        raise FileNotFoundError(f'--pq: no such file: {path}')
    try:
        return {name: float(value) for name, value in json.loads(path.read_bytes()).items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f'--pq: not a JSON object of numbers: {path}') from error


def describe(scene: GivenImage, image: Path | None) -> dict:
    """What the models see."""
    sample = scene.packed['data_samples']
    return {
        'image': image.name if image else 'drawn',
        'size': list(sample.img_shape),
        'output': list(sample.ori_shape),
        'ground_truth': f'{len(sample.gt_instances)} things, {scene.ground_truth}',
    }


def measure(
    subjects: list[Subject], device: str, rounds: int, training_steps: int
) -> dict[str, dict]:
    """A row of figures for each model."""
    rows = {}
    for subject in subjects:
        print(f'{subject.name}: parameters, multiply-adds, memory', flush=True)
        rows[subject.name] = measure_once(subject, device)
    # Once all inferences are measured: memory is taken otherwise after a training step.
    for subject in subjects:
        training_bytes = peak_extra_bytes(subject.training_step(), device)
        rows[subject.name]['training_bytes'] = training_bytes

    stages, steps = ({name: [] for name in rows} for _ in range(2))
    read = clock(device)
    print(f'{rounds} rounds of inference, {training_steps} of training', flush=True)
    for _ in range(rounds):
        for subject in subjects:
            run = subject.inference()
            stages[subject.name].append(milliseconds_by_stage(subject.model, run, device))
    for _ in range(training_steps):
        for subject in subjects:
            run, start = subject.training_step(), read()
            run()
            steps[subject.name].append(read() - start)
    for name, row in rows.items():
        samples = stages[name]
        row['ms'] = {stage: median(sample[stage] for sample in samples) for stage in samples[0]}
        row['total_ms'] = median(sum(sample.values()) for sample in samples)
        row['training_ms'] = median(steps[name])
    return rows


def measure_once(subject: Subject, device: str) -> dict:
    """What does not vary from run to run, and the operators that take most of the time."""
    return {
        'parameters': subject.parameters(),
        'fixed': subject.counts(),
        'gmacs': gmacs_by_stage(subject.model, subject.inference()),
        'bytes': peak_extra_bytes(subject.inference(), device),
        'operators_ms': slowest_operators(subject.inference(), device),
    }


def slowest_operators(run: Callable[[], object], device: str, count: int = 8) -> dict[str, float]:
    """Milliseconds that PyTorch's operators take themselves, summed over their calls."""
    activities = [ProfilerActivity.CPU]
    if device == 'cuda':
        activities.append(ProfilerActivity.CUDA)
    os.environ.setdefault('KINETO_LOG_LEVEL', '9')  # it reports every start and stop otherwise
    with profile(activities=activities) as profiler:
        run()
    own_time = f'self_{"device" if device == "cuda" else "cpu"}_time_total'
    events = profiler.key_averages()
    slowest = sorted(events, key=lambda event: getattr(event, own_time), reverse=True)[:count]
    return {event.key: getattr(event, own_time) / 1e3 for event in slowest}


def summary_table(rows: dict[str, dict]) -> str:
    """One line for each model."""
    columns = ['model', 'parameters, M', 'multiply-adds, G', 'inference, ms', 'ratio', 'peak, MB']
    columns += ['training step, ms', 'peak, MB', 'PQ']
    lines = [columns, ['---'] * len(columns)]
    reference = next(iter(rows.values()))['total_ms']
    for name, row in rows.items():
        cells = [name, f'{row["parameters"] / 1e6:.1f}', f'{sum(row["gmacs"].values()):.0f}']
        cells += [f'{row["total_ms"]:.0f}', f'{row["total_ms"] / reference:.2f}']
        cells += [f'{row["bytes"] / 1e6:.0f}', f'{row["training_ms"]:.0f}']
        cells += [f'{row["training_bytes"] / 1e6:.0f}', '' if row['pq'] is None else f'{row["pq"]}']
        lines.append(cells)
    return as_markdown(lines)


def stage_table(rows: dict[str, dict]) -> str:
    """Milliseconds of every stage, and its multiply-adds where it has any, for each model."""
    lines = [['stage: ms (G multiply-adds)', *rows], ['---'] * (1 + len(rows))]
    for group, stages in GROUPS.items():
        present = [stage for stage in stages if any(stage in row['ms'] for row in rows.values())]
        if present:
            lines.append([f'**{group}**', *(stage_cell(row, present) for row in rows.values())])
        if len(present) > 1:
            lines += [[s, *(stage_cell(row, [s]) for row in rows.values())] for s in present]
    return as_markdown(lines)


def stage_cell(row: dict, stages: list[str]) -> str:
    """The sum over the stages; empty for a model without them."""
    if not any(stage in row['ms'] for stage in stages):
        return ''
    ms, gmacs = (sum(row[key].get(stage, 0) for stage in stages) for key in ('ms', 'gmacs'))
    return f'{ms:.0f}' + (f' ({gmacs:.1f})' if gmacs >= 0.05 else '')


def as_markdown(lines: list[list[str]]) -> str:
    """A table of lines of cells."""
    return '\n'.join(f'| {" | ".join(cells)} |' for cells in lines)
