"""Order rules on scenes composed of photographs, where who is in front is known.

    python tools/benchmarks/order.py --photographs ROOT

composes scenes of a COCO panoptic data set (see ``tools/make_scenes.py --photographs``), looks at
their things with true masks and through a simulated mask head, asks every rule about every occluded
pair and writes a table, plots and ``order.json``. A pair of which a rule cannot tell counts half.
"""

from mmbanet.cli import run_tool

if __name__ == '__main__':
    run_tool(__file__, 'nothing was written, the same command starts again')

import argparse
import itertools
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from harness import make_report, parse_arguments, write_report
from mmengine.utils import ProgressBar
from order_inputs import MASKS, ask, load_scene
from order_pictures import COLORS, draw_examples
from order_statistics import mcnemar, share

from mmbanet.models.fusion import (
    ColorHistogram,
    CombinedOrder,
    ContourContrast,
    LabGaussian,
    MeanColor,
    SmallerInFront,
)
from mmbanet.scenes.data_set import SPLITS
from mmbanet.scenes.photographs.compose import Composer
from mmbanet.scenes.photographs.mask_head import SimulatedMaskHead
from mmbanet.scenes.photographs.source import PhotographSource
from mmbanet.structures import ClaimRegions

mpl.use('Agg')
# By the name of the row: rules, of which the next is asked where those before cannot tell.
RULES = {
    'smaller in front': [SmallerInFront()],
    'mean RGB cosine (paper)': [MeanColor()],
    'Lab Gaussian': [LabGaussian()],
    'RGB histogram': [ColorHistogram()],
    'contour, all it finds': [ContourContrast(least_strength=0, least_difference=0)],
    'contour': [ContourContrast()],
    'contour, then RGB histogram': [ContourContrast(), ColorHistogram()],
    'combined, no ground': [CombinedOrder(ground=False)],
    'combined': [CombinedOrder()],
}
# Of these two it shows the pairs that only one orders rightly.
SHOWN = ('mean RGB cosine (paper)', 'contour, all it finds')
HEAD = SimulatedMaskHead()
# Of the columns of the table; and facts whose quartiles the plot shows.
GROUPS = {
    'all': lambda facts: np.ones(len(facts['scene']), dtype=bool),
    'same class': lambda facts: facts['same_class'],
    'other class': lambda facts: ~facts['same_class'],
    'inside': lambda facts: facts['inside'],
    'crossing': lambda facts: ~facts['inside'],
}
QUARTILES = {
    'size': 'root of the smaller area, pixels',
    'share': 'share of the smaller that is shared',
    'contrast': 'colour distance of the two, Delta E',
}


def main() -> None:
    """Composes, compares, prints the tables and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--photographs', type=Path, required=True, help='COCO panoptic data set')
    parser.add_argument('--split', choices=SPLITS, default='val')
    parser.add_argument('--scenes', type=int, default=700, help='how many to compose')
    parser.add_argument('--seed', type=int, default=0)
    args = parse_arguments(parser, devices=('cpu',))
    if args.scenes < 1:
        parser.error(f'--scenes must be 1 or more, got {args.scenes}')

    # All cut-outs overlap something: scenes are here for their pairs.
    composer = Composer(PhotographSource(args.photographs, args.split), overlap=1.0)
    found = collect(composer, args.split, args.scenes, args.seed)
    results = {masks: summarize(*found[masks]) for masks in MASKS}
    for masks, result in results.items():
        print(f'\n{masks} masks, {result["pairs"]} pairs of {args.scenes} scenes\n')
        print(as_table(result))
    report = make_report(
        args.device,
        split=args.split,
        scenes=args.scenes,
        seed=args.seed,
        mask_head=HEAD._asdict(),
        masks=results,
    )
    path = write_report(report, args.out, 'order')
    plot(report, path.with_suffix('.png'))
    facts, evidence = found['head']
    draw_examples(
        lambda number: load_scene(composer, HEAD, args.seed, args.split, number),
        facts['scene'],
        evidence,
        SHOWN,
        path.with_name('order_examples.png'),
    )
    outlines = ', '.join(f'{color}: {place}' for place, color in COLORS.items())
    print(f'\n{path}, .png and order_examples.png ({outlines})')


@torch.no_grad()
def collect(composer: Composer, split: str, scenes: int, seed: int) -> dict[str, tuple]:
    """By kind of masks the facts of all pairs and the evidence of all rules for the truth.

    Returns:
        (facts, evidence): by name (N,) arrays each.
    """
    found = {masks: ([], {name: [] for name in RULES}) for masks in MASKS}
    progress = ProgressBar(scenes)
    for index in range(scenes):
        for masks, (facts, evidence) in found.items():
            scene = load_scene(composer, HEAD if masks == 'head' else None, seed, split, index)
            if len(scene.pairs):
                facts += scene.facts
                regions = ClaimRegions.from_masks(scene.masks)
                for name, rules in RULES.items():
                    evidence[name].append(ask(rules, scene, regions))
        progress.update()
    if not all(facts for facts, _ in found.values()):
        raise RuntimeError(f'no occluded pair in {scenes} scenes: compose more of them')
    return {
        masks: (
            {key: np.array([fact[key] for fact in facts]) for key in facts[0]},
            {name: np.concatenate(parts) for name, parts in evidence.items()},
        )
        for masks, (facts, evidence) in found.items()
    }


def summarize(facts: dict[str, np.ndarray], evidence: dict[str, np.ndarray]) -> dict:
    """Shares ordered rightly, by rule and group, and which rules differ."""
    rules = {}
    for name, values in evidence.items():
        told = values != 0
        right = np.where(told, values > 0, 0.5)
        rules[name] = dict(
            decided=round(100 * float(told.mean()), 2),
            of_decided=share(right[told], facts['scene'][told]),
            **{
                group: share(right[chosen(facts)], facts['scene'][chosen(facts)])
                for group, chosen in GROUPS.items()
            },
            **{fact: by_quartile(facts, right, fact) for fact in QUARTILES},
        )
    pairs = [
        dict(rules=[a, b], **mcnemar(evidence[a] > 0, evidence[b] > 0))
        for a, b in itertools.combinations(evidence, 2)
    ]
    return dict(pairs=len(facts['scene']), rules=rules, mcnemar=pairs)


def by_quartile(facts: dict[str, np.ndarray], right: np.ndarray, fact: str) -> list[dict]:
    """The share in each quarter of the pairs, by ascending fact, and the median fact there."""
    values = facts[fact]
    quarter = np.searchsorted(np.quantile(values, [0.25, 0.5, 0.75]), values)
    return [
        dict(
            median=round(float(np.median(values[quarter == i])), 3),
            **share(right[quarter == i], facts['scene'][quarter == i]),
        )
        for i in np.unique(quarter)
    ]


def as_table(result: dict) -> str:
    """A Markdown table, a line for each rule; in percent."""
    columns = ['rule', 'ordered rightly', *list(GROUPS)[1:], 'decided', 'right of these']
    lines = ['| ' + ' | '.join(columns) + ' |', '|---' * len(columns) + '|']
    for name, row in result['rules'].items():
        every = row['all']
        cells = [name, f'{every["percent"]:.1f} ({every["low"]:.1f} to {every["high"]:.1f})']
        shares = [*(row[group] for group in list(GROUPS)[1:]), row['of_decided']]
        cells += [f'{cell["percent"]:.1f}' if cell['pairs'] else '' for cell in shares]
        cells.insert(-1, f'{row["decided"]:.1f}')
        lines.append('| ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def plot(report: dict, path: Path) -> None:
    """Groups as bars with their intervals, and quartiles as lines, a row for each kind of masks."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        len(MASKS),
        1 + len(QUARTILES),
        figsize=(19, 4.6 * len(MASKS)),
        gridspec_kw=dict(width_ratios=[2.6, 1, 1, 1]),
        squeeze=False,
    )
    for (masks, result), line in zip(report['masks'].items(), axes):
        width = 0.8 / len(result['rules'])
        for number, (name, row) in enumerate(result['rules'].items()):
            groups = [(i, row[group]) for i, group in enumerate(GROUPS) if row[group]['pairs']]
            height = np.array([cell['percent'] for _, cell in groups])
            ends = np.array([[cell['low'], cell['high']] for _, cell in groups]).T
            place = [i + (number + 0.5) * width - 0.4 for i, _ in groups]
            line[0].bar(place, height, width, yerr=abs(ends - height), label=name)
            for fact, axis in zip(QUARTILES, line[1:]):
                points = [(part['median'], part['percent']) for part in row[fact]]
                axis.plot(*zip(*points), 'o-')
        line[0].set_xticks(range(len(GROUPS)), GROUPS)
        line[0].set_ylabel(f'ordered rightly, %; {masks} masks, {result["pairs"]} pairs')
        for axis, label in zip(line[1:], QUARTILES.values()):
            axis.set_xlabel(label)
        for axis in line:
            axis.set_ylim(40, 101)
            axis.axhline(50, color='black', linewidth=0.8)
            axis.grid(alpha=0.3, axis='y')
    axes[0, 0].legend(fontsize='small', ncols=2, loc='lower right')
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)
