"""What two trainings are told apart by."""

from mmbanet.engine.fingerprints import differences, training_fingerprint


def test_what_a_training_starts_from_is_known_by_its_content(small_cfg, tmp_path):
    plain = training_fingerprint(small_cfg)
    small_cfg.load_from = str(tmp_path / 'start.pth')
    nowhere = training_fingerprint(small_cfg)
    assert differences(plain, nowhere) == ['load_from']
    (tmp_path / 'start.pth').write_text('weights')
    one = training_fingerprint(small_cfg)
    assert training_fingerprint(small_cfg) == one
    (tmp_path / 'start.pth').write_text('others!')
    assert differences(one, training_fingerprint(small_cfg)) == ['initial checkpoint']
