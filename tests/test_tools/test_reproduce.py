"""The tool that reproduces the paper's tables: what it runs, remembers, prints and refuses."""

import importlib
import json
import math
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmbanet.scenes import generate_scenes

from ..conftest import CONFIGS

SCENES = (4, 2)
TINY = ['train_cfg.max_iters=2', 'train_dataloader.batch_size=2', 'train_dataloader.num_workers=0']
TINY += ['train_dataloader.persistent_workers=False']


@pytest.fixture
def tool(tools_folder):
    import reproduce

    return reproduce


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    train, val = SCENES
    return generate_scenes(tmp_path_factory.mktemp('data') / 'scenes', train=train, val=val)


@pytest.fixture
def run(tool, monkeypatch, tmp_path, scenes):
    def run(*arguments, work_dir=tmp_path / 'runs', data_root=scenes):
        command = ['reproduce.py', *arguments, '--work-dir', work_dir, '--data-root', data_root]
        monkeypatch.setattr(sys, 'argv', [str(part) for part in command])
        monkeypatch.setattr(tool, 'SCENES', dict(scenes=SCENES))  # the default
        tool.main()
        return work_dir

    return run


@pytest.fixture
def calls(tool, monkeypatch):
    """The tools that would have been run, in their order; they leave made-up figures."""
    made = []

    def fake(trained, tool_name, arguments, options, log, processes=1, config=None):
        made.append((tool_name, config or trained.config, trained.seed))
        if made[-1] in failing:
            raise tool.RunFailed(f'{tool_name} failed, see {log}: out of memory')
        if tool_name == 'train.py':
            checkpoint = trained.folder / 'iter_2.pth'
            checkpoint.write_text(f'{made[-1]}')
            (trained.folder / 'last_checkpoint').write_text(str(checkpoint))
            return
        quality = {name: 50 + trained.seed + len(config) / 10 for name in tool.TABLES['2'].metrics}
        metrics = {f'coco_panoptic/{name}': value for name, value in quality.items()}
        Path(arguments[arguments.index('--out') + 1]).write_text(json.dumps(metrics))

    failing = set()
    made.clear()
    monkeypatch.setattr(tool.Trained, '_run', fake)
    monkeypatch.setattr(tool.Trained, '_initial_weights', lambda trained: Path('initial.pth'))
    return made, failing


@pytest.fixture
def in_process(tool, monkeypatch):
    """Runs the tools in this process, but for those of the given config, as a shell would."""
    start = tool.Trained._run
    apart = []

    def run(trained, name, arguments, options, log, processes=1, config=None):
        if trained.config in apart:
            start(trained, name, arguments, options, log, processes, config)
            return
        path = str(CONFIGS / f'{config or trained.config}.py')
        with monkeypatch.context() as patch:
            patch.setattr(sys, 'argv', [name, path, *arguments, *trained._settings(options)])
            importlib.import_module(Path(name).stem).main()

    monkeypatch.setattr(tool.Trained, '_run', run)
    monkeypatch.setenv('LOCAL_RANK', '0')  # which the tools set
    return apart


def test_images_are_drawn_anew_as_seeds_are(tool):
    """Against PQ of each drawn set of images, counted one by one."""
    generator = np.random.default_rng(0)
    seeds, images, classes = 3, 20, 4
    new, old = generator.integers(0, 5, (2, seeds, images, classes, 4)).astype(float)
    new[..., 0], old[..., 0] = 0.8 * new[..., 1], 0.6 * old[..., 1]
    new[:, :, 3] = old[:, :, 3] = 0  # a class that is nowhere

    def quality(chosen):
        sums = chosen.sum(axis=0)
        per_class = [i / (m + (f + n) / 2) for i, m, f, n in sums if m + f + n]
        return 100 * sum(per_class) / len(per_class)

    drawn = []
    for _ in range(1500):
        where = generator.integers(images, size=images)
        which = generator.integers(seeds, size=seeds)
        drawn.append(np.mean([quality(new[s][where]) - quality(old[s][where]) for s in which]))
    found = tool.report.bootstrap(new, old)
    np.testing.assert_allclose(found, np.percentile(drawn, [2.5, 97.5]), atol=1.0)
    assert found[0] < np.mean(drawn) < found[1]
    # What is the same in both is no difference, whoever is drawn.
    assert tool.report.bootstrap(new, new) == (0, 0)


@pytest.mark.slow
def test_trains_evaluates_and_prints_a_table(run, in_process, capsys, monkeypatch):
    in_process.append('ablation/banet_r18_fpn_sim_roi_upsample_scenes')
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    work_dir = run('--table', '6', '--seeds', '1', '--cfg-options', *TINY)
    printed, logged = capsys.readouterr()
    assert 'KaimingInit' not in printed + logged
    content = json.loads((work_dir / 'table_6.json').read_text())
    assert content['data'] == 'scenes val'
    assert [row['cells'] for row in content['rows']] == [['RoIUpsample'], ['RoIInlay']]
    for row in content['rows']:
        assert row['training_seconds'][0] > 0
        (metrics,) = row['measured']
        pq = f'{metrics["coco_panoptic/PQ"]:.1f}'
        folder = work_dir / Path(row['config']).name / 'seed_0' / 'metrics'
        with np.load(folder / f'{Path(row["config"]).name}.npz') as counted:
            assert counted['counts'].shape == (SCENES[1], len(counted['is_thing']), 4)
        assert f'| {row["cells"][0]} | scenes val | {pq} |' in (work_dir / 'table_6.md').read_text()
    assert 'RoIInlay     COCO val (paper)  39.5  78.0  48.7' in printed
    # What both have began with the same weights.
    first, second = (
        folder / 'seed_0'
        for folder in (
            work_dir / f'banet_r18_fpn_{name}_scenes' for name in ('sim', 'sim_roi_upsample')
        )
    )
    initial = torch.load(work_dir / 'initial_weights' / 'banet_r18_fpn_dfm_scenes_seed_0.pth')
    for folder in (first, second):
        trained = torch.load(folder / 'iter_2.pth', weights_only=False)['state_dict']
        assert trained.keys() <= initial['state_dict'].keys()
        # The optimizer's warm-up begins with steps of 0.0001.
        assert all(
            torch.allclose(weight, initial['state_dict'][name], atol=1e-3)
            for name, weight in trained.items()
            if 'running' not in name and 'num_batches' not in name
        )
    # The runner's records: one of the training, one of the test.
    folder = work_dir / 'banet_r18_fpn_sim_roi_upsample_scenes' / 'seed_0'
    records = folder.glob('*/vis_data/config.py')
    seeds = [Config.fromfile(path).get('randomness', {}).get('seed') for path in sorted(records)]
    assert seeds == [0, None]
    assert (work_dir / 'table_6.png').stat().st_size > 5000


def test_a_table_shares_checkpoints_and_goes_on_after_a_failure(run, tool, calls, capsys):
    made, failing = calls
    failing.add(('train.py', 'banet/banet_r18_fpn_dfm_256_scenes', 1))
    with pytest.raises(tool.RunFailed, match='out of memory; what is done stays in'):
        run('--table', '4', '--seeds', '2')
    first = list(made)
    failing.clear()
    made.clear()
    run('--table', '4', '--seeds', '2')
    assert ('train.py', 'banet/banet_r18_fpn_dfm_256_scenes', 0) in first
    trained = [seed for name, _, seed in made if name == 'train.py']
    assert trained == [1]  # the other is there
    tested = [(config, seed) for name, config, seed in made if name == 'test.py']
    assert len(tested) == len(set(tested)) == 12
    assert sum(config.startswith('oracles/') for config, _ in tested) == 10

    made.clear()
    run('--table', '4', '--seeds', '2')
    assert made == []
    assert 'found banet/banet_r18_fpn_dfm_256_scenes seed 1' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('option', 'part'),
    [
        ('train_cfg.max_iters=7', 'train_cfg'),
        ('model.backbone.depth=34', 'model'),
        ('train_dataloader.dataset.ann_file=annotations/panoptic_val.json', 'data, train_data'),
    ],
)
def test_a_checkpoint_of_another_config_is_refused(run, calls, option, part):
    run('--table', '6', '--seeds', '1')
    with pytest.raises(ValueError, match=rf'holds a training of something else .*: {part}'):
        run('--table', '6', '--seeds', '1', '--cfg-options', option)


def test_a_training_that_was_interrupted_goes_on_with_its_own_config_only(run, tool, calls):
    made, failing = calls
    failing.add(('train.py', 'ablation/banet_r18_fpn_sim_roi_upsample_scenes', 0))
    with pytest.raises(tool.RunFailed):
        run('--table', '6', '--seeds', '1')
    assert made == list(failing)  # nobody waits for the next one to hear of it
    failing.clear()
    with pytest.raises(ValueError, match='holds an interrupted training of something else'):
        run('--table', '6', '--seeds', '1', '--cfg-options', 'train_cfg.max_iters=7')
    run('--table', '6', '--seeds', '1')


def test_a_table_says_how_it_is_made_again(run, calls, tmp_path):
    folder = run('--table', '6', '--seeds', '1', '--jobs', '2', '--cfg-options', 'log_level=ERROR')
    table = json.loads((folder / 'table_6.json').read_text())
    command = 'python tools/reproduce.py --table 6 --data scenes --seeds 1'
    assert table['command'] == f'{command} --cfg-options log_level=ERROR'
    commit = subprocess.check_output(['git', 'rev-parse', 'HEAD'], cwd=CONFIGS, text=True).strip()
    assert table['commit'].removesuffix('-dirty') == commit[:12]
    assert table['machine']['torch'] == torch.__version__
    page = (folder / 'table_6.md').read_text()
    assert f'`{table["command"]}` of {table["commit"]}' in page
    # Other data are other data.
    option = 'train_dataloader.dataset.ann_file=annotations/panoptic_val.json'
    other = run('--table', '6', '--cfg-options', option, work_dir=tmp_path / 'other')
    table_of_other = json.loads((other / 'table_6.json').read_text())
    assert table_of_other['command'] == f'{command[:-1]}3 --cfg-options {option}'
    assert table_of_other['data_sha256']['train'] != table['data_sha256']['train']
    assert table_of_other['data_sha256']['val'] == table['data_sha256']['val']


def test_what_only_evaluation_reads_is_measured_again_and_not_trained(run, calls):
    made, _ = calls
    run('--table', '6', '--seeds', '1')
    for options in (
        ['--cfg-options', 'model.test_cfg.panoptic.occlusion_thr=0.3'],
        ['--cfg-options', 'model.panoptic_fusion_head.init_cfg=None'],
        ['--cfg-options', 'test_evaluator.0.type=mmbanet.CocoPanopticMetric'],
        ['--cfg-options', 'test_dataloader.batch_size=2'],
        [],
    ):
        made.clear()
        run('--table', '6', '--seeds', '1', *options)
        assert [name for name, *_ in made] == ['test.py', 'test.py'], options
        made.clear()
        run('--table', '6', '--seeds', '1', *options)
        assert made == [], options


def test_figures_of_other_weights_or_versions_are_not_printed(run, calls, monkeypatch, tmp_path):
    made, _ = calls
    run('--table', '6', '--seeds', '1')
    made.clear()
    # The file's time alone decides nothing.
    folder = tmp_path / 'runs' / 'banet_r18_fpn_sim_scenes' / 'seed_0'
    os.utime(folder / 'iter_2.pth', (1, 1))
    run('--table', '6', '--seeds', '1')
    assert made == []
    (folder / 'iter_2.pth').write_text('others')
    run('--table', '6', '--seeds', '1')
    assert [(name, Path(config).name) for name, config, _ in made] == [
        ('test.py', 'banet_r18_fpn_sim_scenes')
    ]
    made.clear()
    monkeypatch.setattr('mmbanet.__version__', '99.0')
    run('--table', '6', '--seeds', '1')
    assert [name for name, *_ in made] == ['test.py', 'test.py']


def test_figures_of_other_data_are_not_printed(run, calls, scenes, tmp_path):
    """The same data elsewhere are the same; other data in the same place are others."""
    made, _ = calls
    run('--table', '6', '--seeds', '1')
    made.clear()
    shutil.copytree(scenes, tmp_path / 'moved')
    run('--table', '6', '--seeds', '1', data_root=tmp_path / 'moved')
    assert made == []
    train, _ = SCENES
    generate_scenes(tmp_path / 'moved', train=train, val=3, overwrite=True)
    run('--table', '6', '--seeds', '1', '--scenes', '4', '3', data_root=tmp_path / 'moved')
    assert [name for name, *_ in made] == ['test.py', 'test.py']


def test_scenes_of_other_settings_are_refused(run, calls, scenes):
    with pytest.raises(FileExistsError, match=r"holds other scenes, .*'train': 4.*'train': 5"):
        run('--table', '6', '--seeds', '1', '--scenes', '5', '2')
    assert calls[0] == []


def test_mistakes_get_a_clear_error(run, tmp_path, capsys):
    with pytest.raises(FileNotFoundError, match=r'COCO is not complete in .*missing: ') as raised:
        run('--table', '2', '--data', 'coco', data_root=tmp_path)
    for name in ('train2017, ', 'panoptic_val2017.json', 'instances_train2017.json'):
        assert name in str(raised.value)
    for arguments, message in [
        (['--table', '7'], "invalid choice: '7'"),
        (['--table', '2', '--rows', '0'], 'table 2 has rows 1 to 6, not 0'),
        (['--table', '2', '--rows', '1', '7'], 'table 2 has rows 1 to 6, not 7'),
        (['--table', '1', '--rows', '8'], 'of row 8 of table 1 only the paper has figures'),
        (['--table', '5', '--rows', '1'], '--rows is for a table that is trained'),
        (['--figure', '6', '--rows', '1'], '--rows is for a table that is trained'),
        (['--table', '2', '--data', 'cityscapes'], "invalid choice: 'cityscapes'"),
        (['--table', '2', '--seeds', '0'], 'must be at least 1'),
        (['--table', '2', '--data', 'camvid', '--scenes', '9', '9'], 'camvid has its images'),
        (['--table', '2', '--cfg-options', 'a'], "expected KEY=VALUE, got 'a'"),
        ([], 'one of the arguments --table --figure is required'),
    ]:
        with pytest.raises(SystemExit):
            run(*arguments)
        assert message in capsys.readouterr().err


def test_dry_run_prints_a_plan_and_writes_nothing(run, calls, tool, tmp_path, capsys):
    made, _ = calls
    hours = {}
    for speed in ('0.001', '0.002'):
        arguments = ['--table', '6', '--seeds', '2', '--dry-run', '--teraflops', speed]
        run(*arguments, data_root=tmp_path / 'none')
        lines = capsys.readouterr().out.splitlines()
        (line,) = (line for line in lines if line.startswith('ablation/banet_r18_fpn_sim_scenes'))
        _, trainings, iterations, images, _, hours[speed], _ = line.split()
        assert (trainings, iterations, images) == ('2', '500', '4000')
        assert any(line.startswith('all ') and line.split()[1] == '4' for line in lines)
        assert lines[-1].endswith('will be made, 4 and 2 images')
    assert float(hours['0.001']) == pytest.approx(2 * float(hours['0.002']), abs=0.1)
    assert made == []
    assert not (tmp_path / 'runs').exists()
    assert not (tmp_path / 'none').exists()


def test_dry_run_leaves_out_what_is_done(run, calls, capsys):
    run('--table', '6', '--seeds', '1')
    capsys.readouterr()
    run('--table', '6', '--seeds', '2', '--dry-run')
    printed = capsys.readouterr().out
    assert printed.count(' 1 (1 done) ') == 2
    assert printed.splitlines()[-1].endswith('is there')


def test_dry_run_checks_the_data(run, tool, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr('paper.plan.count_training', lambda cfg: (1e12, 10**6))
    coco, arguments = tmp_path / 'coco', ['--table', '6', '--data', 'coco', '--dry-run']
    with pytest.raises(FileNotFoundError, match='COCO is not complete'):
        run(*arguments, data_root=coco)
    # 90,000 iterations of 2 images, by one process, at 9.3 TFLOP/s
    assert f'{3 * 180000 / 9.3 / 3600:.1f}' in capsys.readouterr().out
    for split in ('train2017', 'val2017'):
        (coco / split).mkdir(parents=True)
        (coco / 'annotations' / f'panoptic_{split}').mkdir(parents=True)
        for kind in ('panoptic', 'instances'):
            (coco / 'annotations' / f'{kind}_{split}.json').touch()
    with pytest.raises(FileNotFoundError, match='train2017 has 0 files of 118287'):
        run(*arguments, data_root=coco)
    monkeypatch.setattr(tool, 'IMAGES', dict(coco=(0, 0), camvid=(367, 101)))
    run(*arguments, data_root=coco)
    assert capsys.readouterr().out.endswith('coco is complete\n')
    with pytest.raises(FileNotFoundError, match='CamVid is not in'):
        run('--table', '6', '--data', 'camvid', '--dry-run', data_root=tmp_path / 'camvid')
    with pytest.raises(SystemExit):
        run('--table', '5', '--dry-run')
    assert 'table 5 and figure 7 are benchmarks' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('config', 'size'),
    [
        ('banet_r50_fpn_1x_coco', (800 * 0.85, 800 * 0.85 * 4 / 3)),
        ('banet_dcn101_fpn_dfm_3x_coco', (720 * 0.85, 720 * 0.85 * 4 / 3)),
        ('banet_r18_fpn_scenes', (128, 128)),
        ('banet_r18_fpn_camvid', (180, 240)),
    ],
)
def test_plans_know_the_size_of_images(tool, config, size):
    from paper.plan import train_size

    cfg = Config.fromfile(CONFIGS / 'banet' / f'{config}.py')
    assert train_size(cfg) == pytest.approx(size)


def test_plans_know_the_size_of_checkpoints(tool):
    from paper.plan import checkpoint_bytes

    coco, small = (
        Config.fromfile(CONFIGS / 'banet' / f'banet_{name}.py')
        for name in ('r50_fpn_1x_coco', 'r18_fpn_scenes')
    )
    assert checkpoint_bytes(coco, 1000, 90000) == 3 * 8 * 1000  # weights, momentum; 3 are kept
    assert checkpoint_bytes(small, 1000, 500) == 12 * 1000  # AdamW has two moments; one is saved


def test_operations_are_proportional_to_pixels(tool, small_cfg):
    """What is counted on two small images is right for a third one; with S2I, I2S and all."""
    from paper.plan import count_forward, count_training, positive_rois

    positives = positive_rois(small_cfg.model)
    steps = small_cfg.train_dataloader.dataset.pipeline
    for step in steps:
        if step.type == 'Resize':
            step.scale = (256, 256)
    operations, parameters = count_training(small_cfg)
    with DefaultScope.overwrite_default_scope('mmdet'):
        share = (8 / positives, 8 / positives)
        small_cfg.model.train_cfg.i2s.gt_share = share
        net = MODELS.build(small_cfg.model).train()
    counted = 3 * count_forward(net, 256, 256, positives)
    assert operations == pytest.approx(counted, rel=0.02)
    assert parameters == sum(parameter.numel() for parameter in net.parameters())


def test_a_training_that_outlived_its_parent_is_left_alone(run, tool, tmp_path):
    """Killed alone, the tool leaves its training running, which another one must not join."""
    folder = tmp_path / 'runs' / 'banet_r18_fpn_sim_roi_upsample_scenes' / 'seed_0'
    folder.mkdir(parents=True)
    command = f'import subprocess, fcntl; log = open("{folder}/train.log", "a"); '
    command += 'fcntl.flock(log, fcntl.LOCK_EX); '
    command += 'print(subprocess.Popen(["sleep", "60"], stdout=log).pid)'
    child = int(subprocess.check_output([sys.executable, '-c', command]))
    try:
        with pytest.raises(tool.RunFailed, match=r'another process is still writing .*train\.log'):
            run('--table', '6', '--seeds', '1', '--cfg-options', *TINY)
    finally:
        os.kill(child, signal.SIGKILL)


def test_an_interruption_ends_the_training_and_says_how_to_go_on(call_tool, scenes, tmp_path):
    work_dir, errors = tmp_path / 'runs', tmp_path / 'errors'
    command = ['reproduce.py', '--table', 6, '--seeds', 1, '--work-dir', work_dir]
    command += ['--data-root', scenes, '--scenes', *SCENES, '--cfg-options', *TINY[1:]]

    def script():
        """What a shell starts, in a copy of this process, which has the imports already."""
        os.setsid()
        for stream in (1, 2):
            os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
        call_tool(*command)

    process = multiprocessing.get_context('fork').Process(target=script)
    process.start()
    try:
        while not list(work_dir.glob('*/seed_0/train.log')):
            assert process.is_alive()
            time.sleep(0.1)
        os.kill(process.pid, signal.SIGINT)  # to it alone: it tells the training
        process.join(60)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.exitcode == 130
    assert 'Traceback' not in errors.read_text()
    assert errors.read_text().endswith(
        'reproduce.py: interrupted; the same command goes on with what is in the work folder\n'
    )


def test_a_tool_that_was_about_to_start_is_interrupted(run, tool, monkeypatch):
    monkeypatch.setattr(tool.interrupted, 'clear', lambda: None)
    tool.interrupted.set()
    try:
        with pytest.raises(tool.RunFailed, match=r'train\.py failed'):
            run('--table', '6', '--seeds', '1')
    finally:
        monkeypatch.undo()
        tool.interrupted.clear()


def test_trainings_of_several_processes_have_a_port_each(run, tool, monkeypatch):
    commands = []

    def popen(command, **rest):
        commands.append(command)
        raise KeyboardInterrupt

    monkeypatch.setattr(tool.Trained, '_initial_weights', lambda trained: Path('initial.pth'))
    monkeypatch.setattr(subprocess, 'Popen', popen)
    with pytest.raises(KeyboardInterrupt):
        run('--table', '6', '--rows', '1', '--seeds', '1', '--gpus', '2')
    start = ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2']
    assert commands[0][1:6] == start
    assert '--launcher' in commands[0]
    tool.interrupted.clear()


def test_a_failing_tool_names_its_log(run, tool):
    with pytest.raises(tool.RunFailed, match=r'train.py failed, see .*train\.log: .*no_such_part'):
        run(
            '--table',
            '6',
            '--seeds',
            '1',
            '--cfg-options',
            'optim_wrapper.optimizer.no_such_part=1',
        )


@pytest.mark.parametrize('data', ['coco', 'scenes', 'camvid', 'photo_scenes'])
def test_every_row_has_its_configs(tool, data):
    for number, table in tool.TABLES.items():
        for row in table.rows:
            assert len(row.cells) == len(table.columns)
            assert len(row.paper) == len(table.metrics)
        missing = tool.missing_configs([row for row in table.rows if row.config], data)
        small = data in ('camvid', 'photo_scenes')
        # OCFusion has nothing to learn where masks never overlap.
        if (data, number) == ('camvid', '1'):
            assert missing == ['ocfusion/ocfusion_r18_fpn_camvid']
        elif (data, number) in (('coco', '1'), ('coco', 'losses')):  # the paper's weights are its
            assert missing[-1] == 'banet/banet_r50_fpn_1x_coco_full_losses'
            assert all(name.endswith('_full_losses') for name in missing)
        else:
            assert bool(missing) == (small and number in ('3', '4')), missing


def test_a_table_that_has_no_configs_of_a_data_set_says_so(run):
    with pytest.raises(FileNotFoundError, match=r'table 4 has no configs of camvid: .*gt_boxes'):
        run('--table', '4', '--data', 'camvid')


def test_rows_without_configs_of_a_data_set_are_left_out(run, calls, tool, monkeypatch, capsys):
    table = tool.TABLES['6']
    rows = (*table.rows, tool.Row(('new',), 'ablation/{backbone}_that_is_not', (1.0, 2.0, 3.0)))
    monkeypatch.setitem(tool.TABLES, '6', table._replace(rows=rows))
    work_dir = run('--table', '6', '--seeds', '1')
    printed = capsys.readouterr().out
    assert 'has no configs of scenes: ablation/r18_that_is_not; these rows are left out' in printed
    content = json.loads((work_dir / 'table_6.json').read_text())
    assert [row['cells'] for row in content['rows']] == [['RoIUpsample'], ['RoIInlay']]


def test_what_starts_from_a_checkpoint_comes_after_it(run, calls, tool, monkeypatch):
    made, _ = calls
    monkeypatch.setattr(tool.Trained, '_initial_weights', lambda trained: 'initial weights')
    given = {}
    start = tool.Trained._run

    def fake(trained, name, arguments, options, *rest, **named):
        if name == 'train.py':
            weights = [option for option in options if option.startswith('load_from=')]
            given[Path(trained.config).name, trained.seed] = weights[0].removeprefix('load_from=')
        start(trained, name, arguments, options, *rest, **named)

    monkeypatch.setattr(tool.Trained, '_run', fake)
    work_dir = run('--table', '1', '--seeds', '2', '--jobs', '2')
    below = 'panoptic_fpn_r18_fpn_scenes'
    for seed in (0, 1):
        expected = work_dir / below / f'seed_{seed}' / 'iter_2.pth'
        assert given.pop(('ocfusion_r18_fpn_scenes', seed)) == str(expected)
    assert set(given.values()) == {'initial weights'}
    trained = [(Path(config).name, seed) for name, config, seed in made if name == 'train.py']
    assert set(trained[-2:]) == {('ocfusion_r18_fpn_scenes', 0), ('ocfusion_r18_fpn_scenes', 1)}
    # Fusion that is not learned has no training of its own.
    assert not {'jsis', 'efficientps'} & {name.split('_')[0] for name, _ in trained}

    gain = json.loads((work_dir / 'table_1.json').read_text())['gains'][0]
    assert gain['old'] == 'Panoptic FPN val R18 heuristic'
    assert gain['new'].startswith('JSIS-Net')
    text = (work_dir / 'table_1.md').read_text()
    assert text.count('OCFusion') == 2  # measured and compared; the paper has none


def measured_rows(tool, number, values):
    """Rows of one seed with a PQ each; things have 1 more, stuff 2 more."""
    return [
        tool.report.Measured(
            row,
            row.cells,
            [
                {
                    f'coco_panoptic/{name}': value + k
                    for k, name in enumerate(('PQ', 'PQ_th', 'PQ_st'))
                }
            ],
        )
        for row, value in zip(tool.TABLES[number].rows, values)
    ]


@pytest.mark.parametrize(
    ('number', 'values', 'expected'),
    [
        ('2', [40, 42, 45], ['+2.0', '+3.0', '+5.0']),  # the last over the first, too
        ('2', [40, 42], ['+2.0']),
        ('2', [40], []),
        ('4', [40, 42, 45], ['+2.0', '+5.0']),  # each over the first
    ],
)
def test_gains_are_over_the_row_above_only_where_rows_add_up(tool, number, values, expected):
    gains = tool.report.gains(tool.TABLES[number], measured_rows(tool, number, values))
    assert [str(gain).split('PQ ')[1].split(' ')[0] for gain in gains] == expected
    start = {'2': 'baseline -> SIM: ', '4': 'no ground truth -> GT Occ: '}[number]
    assert all(str(gain).startswith(start) for gain in gains[:1])


def test_gains_of_things_and_stuff_have_their_intervals(tool):
    """Stuff gains in every image alike, things in none."""
    table = tool.TABLES['losses']
    old, new = measured_rows(tool, 'losses', [40, 42])
    counts = np.random.default_rng(0).integers(1, 5, (30, 3, 4)).astype(float)
    counts[..., 0] = 0.5 * counts[..., 1]
    more = counts.copy()
    more[:, 2, 0] *= 1.5
    is_thing = np.array([True, True, False])
    rows = [
        old._replace(counts=[more], is_thing=is_thing),
        new._replace(counts=[counts], is_thing=is_thing),  # the row that others are compared with
    ]
    (gain,) = tool.report.gains(table, rows)
    written = gain.as_json()
    assert (written['old'], written['new']) == ('baseline 1.0', 'baseline 0.5')
    assert written['PQ']['by_seed'] == [-2.0]
    assert written['PQ_th']['95% by images'] == [0, 0]
    low, high = written['PQ_st']['95% by images']
    _, matched, false, missed = counts[:, 2].sum(axis=0)
    assert 0 < low < 100 * 0.25 * matched / (matched + (false + missed) / 2) < high
    assert 'one seed, the noise of seeds is unknown); things -2.0 (+0.0 to +0.0), stuff' in str(
        gain
    )

    other_seed = [{f'coco_panoptic/{name}': 50.0 for name in gain.differences}]
    rows = [
        row._replace(metrics=[*row.metrics, *other_seed], counts=[*row.counts] * 2) for row in rows
    ]
    (gain,) = tool.report.gains(table, rows)
    assert gain.as_json()['PQ']['by_seed'] == [-2.0, 0.0]
    # Student's for two seeds, whose standard error is 1: 12.7 on each side.
    assert gain.as_json()['PQ']['95% by seeds'] == [-13.71, 11.71]
    assert set(gain.as_json()['PQ']) == {'by_seed', '95% by seeds', '95% by seeds and images'}
    assert 'by seeds and images: within the noise' in str(gain)


def test_chosen_rows_alone(run, calls):
    made, _ = calls
    folder = run('--table', 'losses', '--rows', '4', '2', '--seeds', '1')
    content = json.loads((folder / 'table_losses.json').read_text())
    configs = ['ablation/banet_r18_fpn_baseline_scenes', 'banet/banet_r18_fpn_scenes']
    configs = [f'{config}_full_losses' for config in configs]
    assert [row['config'] for row in content['rows']] == configs
    assert {config for _, config, _ in made} == set(configs)
    assert '--table losses --data scenes --seeds 1 --rows 4 2' in content['command']
    assert [gain['new'] for gain in content['gains']] == ['BANet 1.0 1.0']
    assert 'paper' not in (folder / 'table_losses.md').read_text()  # which has other rows alone


def test_lines_name_the_backbones_they_were_measured_with(run, calls, tool, capsys):
    run('--table', '3', '--seeds', '1')
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    backbones = {'scenes': [], 'COCO': []}
    for words in printed:
        if words and words[0] in ('R18', 'R34', 'R50', 'R101'):
            data = words[2] if words[1] == 'x' else words[1]
            backbones[data].append(words[0])
    assert backbones == {'scenes': ['R18', 'R34'] * 2, 'COCO': ['R50', 'R101'] * 2}
    for row in tool.TABLES['3'].rows:
        for data in ('coco', 'scenes'):
            _, trained = tool.config_names(row, data)
            depth = Config.fromfile(CONFIGS / f'{trained}.py').model.backbone.depth
            name = row.cells[0]
            assert tool.BACKBONES[data].get(name, name) == f'R{depth}'


def test_gains_are_told_from_noise(tool):
    def difference(new, old):
        rows = [
            tool.report.Measured(None, (), [{'coco_panoptic/PQ': value} for value in values])
            for values in (new, old)
        ]
        return str(tool.report.Difference.between(*rows, 'PQ'))

    assert difference([50.0], [48.0]) == '+2.0 (one seed, the noise of seeds is unknown)'
    # Differences 2, 3, 4: standard error 1 / sqrt(3), t of two degrees of freedom 4.30.
    seeds = '(95%: {} by seeds: {} the noise)'
    assert difference([52.0, 53, 54], [50.0, 50, 50]) == '+3.0 ' + seeds.format(
        '+0.5 to +5.5', 'beyond'
    )
    assert difference([52.0, 53, 51], [50.0, 52, 52]) == '+0.7 ' + seeds.format(
        '-3.1 to +4.5', 'within'
    )
    # Seeds are compared in pairs: what all rows share is no noise.
    assert difference([10.0, 20, 30], [9.0, 19, 29]) == '+1.0 ' + seeds.format(
        '+1.0 to +1.0', 'beyond'
    )
    assert tool.report.spread([1.0, 2.0, 3.0]) == '2.0 ±1.0'
    assert tool.report.spread([math.nan, 1.0]) == '-'


@pytest.mark.slow
@pytest.mark.usefixtures('in_process')
def test_figure_6_shows_the_images_with_the_most_things(run, tool, scenes, capsys, monkeypatch):
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    # As in a fresh process: the tests' own scope is not there.
    with DefaultScope.overwrite_default_scope('mmengine'):
        work_dir = run('--figure', '6', '--images', '2', '--cfg-options', *TINY)
    picture = cv2.imread(str(work_dir / 'figure_6.png'))[..., ::-1]
    assert picture.shape == (28 + 2 * (256 + 6), 5 * 256 + 6 * 6, 3)
    assert 'the 2 images with the most things' in capsys.readouterr().out

    annotations = json.loads((scenes / 'annotations' / 'panoptic_val.json').read_text())
    things = {part['id'] for part in annotations['categories'] if part['isthing']}
    counts = {
        image['file_name']: sum(part['category_id'] in things for part in image['segments_info'])
        for image in annotations['annotations']
    }
    first = max(counts, key=counts.get)
    image = cv2.imread(str((scenes / 'val' / first).with_suffix('.jpg')))[..., ::-1]
    shown = cv2.resize(image, (256, 256), interpolation=cv2.INTER_NEAREST)
    assert (picture[28 : 28 + 256, 6 : 6 + 256] == shown).all()
    # The last column is the ground truth, in the palette's colours; training took two iterations.
    truth, untrained = picture[28:284, -262:-6], picture[28:284, -2 * 262 : -262 - 6]
    assert (truth != untrained).any()
    trained = sorted(path.parent.parent.name for path in work_dir.glob('*/seed_0/training.json'))
    assert trained == ['banet_r18_fpn_baseline_scenes', 'banet_r18_fpn_scenes']
