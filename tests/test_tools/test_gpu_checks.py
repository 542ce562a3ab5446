"""The checks for a GPU machine: what of them needs no GPU runs, and finds what is wrong."""

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ..conftest import ROOT

sys.path.append(str(ROOT / 'tools' / 'dev'))
import gpu_checks
import gpu_parity
import gpu_programs
from gpu_outcomes import CheckError, Settings, SkipCheck

SCRIPT = ROOT / 'tools' / 'dev' / 'gpu_checks.py'


def run_script(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, SCRIPT, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_dry_run(tmp_path):
    result = run_script('--device', 'cpu', '--sets', 8, '--out', tmp_path)

    assert result.returncode == 0, result.stdout + result.stderr
    report = json.loads((tmp_path / 'gpu_checks_cpu.json').read_text())
    statuses = {row['name']: row['status'] for row in report['checks']}
    assert list(statuses) == list(gpu_checks.CHECKS)
    assert {name for name, status in statuses.items() if status == 'PASS'} == {
        'parity',
        'argmax',
        'determinism',
    }
    assert 'FAIL' not in statuses.values()
    assert 'PASS  parity        8 sets' in result.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason='needs a machine without a GPU')
def test_no_gpu(tmp_path):
    result = run_script('--out', tmp_path)

    assert result.returncode == 1
    assert result.stderr.startswith('gpu_checks: no CUDA device is visible')
    assert not list(tmp_path.iterdir())


class WrongInChannelsLast(gpu_parity.Operator):
    """Adds a little in one of the layouts, and forgets that layout."""

    def forward(self, case, crops):
        output = super().forward(case, crops).contiguous()
        return output + 1e-3 if not crops.is_contiguous() else output


def test_parity_finds_a_wrong_operator(monkeypatch):
    wrong = WrongInChannelsLast('roi_inlay', (), atomic=False)
    monkeypatch.setattr(gpu_parity, 'OPERATORS', (wrong,))
    seed = next(s for s in range(99) if gpu_parity.random_set(s)['input'].shape[1] > 1)
    case = gpu_parity.random_set(seed)

    lines = list(gpu_parity.mismatches(case, seed, 'cpu'))

    assert any('torch.float32 torch.channels_last: off by 0.001' in line for line in lines)
    assert any('the layouts differ' in line for line in lines)
    assert any('strides' in line for line in lines)
    assert not any('backward' in line or 'contiguous_format' in line for line in lines)


def test_sets_have_what_they_are_said_to_have():
    cases = [gpu_parity.random_set(seed) for seed in range(200)]
    rois = torch.cat([case['rois'] for case in cases])
    assert {case['input'].shape[1] for case in cases} == set(gpu_parity.CHANNELS)
    for found in (rois.isnan(), rois.isinf(), rois.abs() > 1e9):
        assert found.any()
    assert max(max(case['output_size']) for case in cases) > 64
    bad = gpu_parity.with_bad_images(cases[0], 0)
    assert not torch.equal(bad['rois'], cases[0]['rois'])
    images = gpu_parity.without_bad_images(bad)['rois'][:, 0]
    assert ((images >= 0) & (images < bad['batch_size'])).all()


OWN = '=========     at void mmbanet::roi_inlay_kernel<float>(int)+0x10'
OTHER = '=========     at void at::native::elementwise_kernel<4>(int)+0x10'


@pytest.mark.parametrize(
    ('tool', 'report', 'code', 'message'),
    [
        ('memcheck', '========= ERROR SUMMARY: 0 errors', 0, '12 sets, 0 reports'),
        ('initcheck', f'{OTHER}\n========= ERROR SUMMARY: 1 error', 0, '0 reports, 1 in kernels'),
        (
            'initcheck',
            f'{OWN}\n========= ERROR SUMMARY: 1 error',
            0,
            '1 reports, the first at void',
        ),
        ('memcheck', f'{OWN}\n========= ERROR SUMMARY: 1 error', 1, '1 reports, the first at void'),
        ('racecheck', '========= RACECHECK SUMMARY: 1 hazard', 1, 'exit code 1: program'),
        ('memcheck', '', 0, 'wrote no summary'),
    ],
)
def test_sanitizer_reports(tool, report, code, message, tmp_path):
    program = tmp_path / 'compute-sanitizer'
    program.write_text(
        f"""#!{sys.executable}
import sys
log = sys.argv[sys.argv.index('--log-file') + 1]
open(log, 'w').write({report + chr(10)!r})
print('program')
sys.exit({code})
"""
    )
    program.chmod(0o755)
    settings = Settings('cuda', 1000, 0, tmp_path / 'out', time.monotonic() + 60)
    try:
        outcome = gpu_programs.sanitize(str(program), tool, settings)
    except CheckError as error:
        assert not message.startswith(('12 sets', '0 reports'))
        outcome = str(error)
    assert message in outcome


def benchmark_report(inlay_ms):
    times = {'roi_inlay': inlay_ms, 'roi_upsample sum': 10.0, 'roi_upsample mean': 12.0}
    row = {'case': '100, 28, 300', 'forward_ms': times, 'floor_ms': 1.0}
    model = {**row, 'case': 'model, C=138', 'forward_ms': {**times, 'roi_inlay': 99.0}}
    return {'copy_bandwidth_gb_per_s': 1000.0, 'rows': [row, model]}


def test_benchmark_is_judged():
    assert '1 rows: at least 80%' in gpu_programs.judge_benchmark(benchmark_report(1.25))
    with pytest.raises(CheckError, match=r'50% of the copy bandwidth$'):
        gpu_programs.judge_benchmark(benchmark_report(2.0))
    with pytest.raises(CheckError, match=r'25% .*; .*2\.5 times roi_upsample'):
        gpu_programs.judge_benchmark(benchmark_report(4.0))


def test_fusion_and_models_are_described():
    rows = [
        {'objects': n, 'logits': 'stride 4', 'ms': {'mmbanet': n, 'mmdet': 20}, 'floor_ms': 0.5}
        for n in (1, 10)
    ]
    assert gpu_programs.describe_fusion({'rows': rows}) == (
        "1 objects, stride 4: 1.00 ms, 0.05 of mmdet's, 2.0 times the floor; "
        "10 objects, stride 4: 10.00 ms, 0.50 of mmdet's, 20.0 times the floor"
    )
    keys = ('total_ms', 'bytes', 'training_ms', 'training_bytes')
    models = {
        'fpn': dict(zip(keys, (20, 100e6, 50, 300e6))),
        'banet': dict(zip(keys, (22, 120e6, 60, 330e6))),
    }
    assert gpu_programs.describe_models({'models': models}) == (
        'fpn: inference 20.0 ms, 100 MB; training step 50.0 ms, 300 MB; '
        'banet: inference 1.10 of its time, 1.20 of its memory; training step 1.20, 1.10'
    )


@pytest.fixture
def run_fake(monkeypatch, tmp_path):
    """Runs a benchmark that is a few lines, where mmbanet is not on the path."""
    monkeypatch.setattr(gpu_programs, 'BENCHMARKS', tmp_path)
    monkeypatch.delenv('PYTHONPATH', raising=False)

    def run(source):
        (tmp_path / 'fake.py').write_text(source)
        return gpu_programs.run_benchmark('fake', settings(out=tmp_path), '--seconds', '1')

    return run


def test_benchmarks_find_the_package_and_their_options(run_fake):
    report = run_fake("""
import json, sys, mmbanet
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
with open(given['--out'] + '/fake_cpu.json', 'w') as file:
    json.dump({**given, 'package': mmbanet.__file__}, file)
""")
    assert (report['--seconds'], report['--device']) == ('1', 'cpu')
    assert report['package'] == str(ROOT / 'mmbanet' / '__init__.py')


@pytest.mark.parametrize(
    ('source', 'error', 'message'),
    [
        ('import mmdet.missing', SkipCheck, "No module named 'mmdet.missing'$"),
        ('import harness_missing', CheckError, "exit code 1: .*'harness_missing'$"),
        ('import mmbanet.missing', CheckError, "exit code 1: .*'mmbanet.missing'$"),
        (
            "assert False, 'nms_rotated miss in module _ext'",
            SkipCheck,
            'AssertionError: nms_rotated miss in module _ext$',
        ),
        (
            "raise RuntimeError('nms_impl: implementation for device cuda:0 not found.\\n')",
            SkipCheck,
            'RuntimeError: nms_impl: implementation for device cuda:0 not found.$',
        ),
        (
            'raise NotImplementedError("Could not run \'a::nms\' with arguments from b.\\n\\nC")',
            SkipCheck,
            "NotImplementedError: Could not run 'a::nms' with arguments from b.$",
        ),
        ('1 / 0', CheckError, 'exit code 1: ZeroDivisionError: '),
    ],
)
def test_benchmarks_that_fail_or_lack_an_operator(source, error, message, run_fake):
    with pytest.raises(error, match=message):
        run_fake(source)


def test_failed_tests_are_counted():
    output = """
FAILED tests/test_ops/test_compile.py::test_trace[a-cuda] - assert False
FAILED tests/test_ops/test_compile.py::test_trace[b-cuda] - AssertionError: [1]
ERROR tests/test_ops/test_onnx.py
3 failed, 5 passed in 0.10s
"""
    assert gpu_programs.describe_failures(output) == (
        '3 failed, 5 passed in 0.10s: test_compile.py::test_trace (2), test_onnx.py (1)'
    )
    assert gpu_programs.describe_failures('no tests ran') == 'no tests ran'


def test_operators_of_mmcv(monkeypatch):
    """Those of a pure Python mmcv are missing."""
    assert gpu_programs.has_mmcv_operators()
    monkeypatch.setitem(sys.modules, 'mmcv.ops', None)
    assert not gpu_programs.has_mmcv_operators()


def settings(seconds=60.0, **changed):
    return Settings('cpu', 8, 0, Path(), time.monotonic() + seconds)._replace(**changed)


def fail(_):
    raise CheckError('wrong')


def skip(_):
    raise SkipCheck('not here')


@pytest.mark.parametrize(
    ('function', 'error', 'message'),
    [
        (fail, CheckError, 'wrong'),
        (skip, SkipCheck, 'not here'),
        (lambda _: 1 // 0, CheckError, 'ZeroDivisionError: integer'),
        (lambda _: os.abort(), CheckError, 'the process ended with exit code -6'),
        (lambda _: time.sleep(60), CheckError, 'did not come to its end'),
    ],
)
def test_a_check_that_fails_ends_alone(function, error, message, monkeypatch):
    """Whatever becomes of its process, as after an illegal access on a GPU."""
    monkeypatch.setattr(gpu_checks, 'GRACE_SECONDS', 0.1)
    with pytest.raises(error, match=message):
        gpu_checks.run_apart(function, settings(0.2 if message.startswith('did') else 60))


def test_the_file_is_complete_at_any_time(tmp_path):
    report = gpu_checks.Report(tmp_path, {'device': 'NVIDIA H1'}, ['parity', 'argmax'])

    def written():
        checks = json.loads((tmp_path / 'gpu_checks_nvidia_h1.json').read_text())['checks']
        return {row['name']: (row['status'], row['detail']) for row in checks}

    assert written() == {'parity': ('SKIP', 'not reached'), 'argmax': ('SKIP', 'not reached')}
    report.add('build', 'PASS', 'built', 70.0)
    report.add('parity', 'FAIL', 'off', 3.0)
    assert written() == {
        'parity': ('FAIL', 'off'),
        'argmax': ('SKIP', 'not reached'),
        'build': ('PASS', 'built'),
    }


def test_sets_stop_when_their_time_is_up():
    assert gpu_parity.check_argmax(settings(math.inf)).startswith('8 sets x')
    assert gpu_parity.check_argmax(settings(-1.0)).startswith('1 sets of 8 x')


def test_time_is_up_before_the_checks(tmp_path):
    result = run_script('--device', 'cpu', '--minutes', 0, '--out', tmp_path)

    assert result.returncode == 0, result.stdout + result.stderr
    report = json.loads((tmp_path / 'gpu_checks_cpu.json').read_text())
    assert {row['detail'] for row in report['checks']} == {'not reached'}


def test_headers_of_mmcv_can_be_said(tmp_path, monkeypatch):
    """The build gets a package mmcv that has nothing but them."""
    headers = tmp_path / 'headers'
    headers.mkdir()
    (headers / 'pytorch_cpp_helper.hpp').touch()
    seen = {}

    def run(command, given, env, **options):
        package = Path(env['PYTHONPATH'].split(os.pathsep)[0], 'mmcv')
        found = subprocess.run(
            [sys.executable, '-c', 'import mmcv; print(mmcv.__file__)'],
            env=env,
            capture_output=True,
            text=True,
        ).stdout
        seen.update(env, found=found.strip() == str(package / '__init__.py'))
        seen['header'] = (package / 'ops/csrc/common/pytorch_cpp_helper.hpp').exists()
        return subprocess.CompletedProcess(command, 0, 'built')

    monkeypatch.setattr('gpu_build.run_program', run)
    detail = gpu_checks.build(settings(), '9.0', headers)

    assert detail.startswith('for compute capability 9.0, ')
    assert seen['found']
    assert seen['header']
    assert (seen['FORCE_CUDA'], seen['TORCH_CUDA_ARCH_LIST']) == ('1', '9.0')
