"""Where files are written, and what is there before."""

import pytest

from mmbanet.datasets.panoptic_files import folder_within, write_whole


def test_folders_of_an_output_lie_in_it(tmp_path):
    out = tmp_path / 'out'
    assert folder_within(out, out / 'maps' / 'a').is_dir()
    (out / 'link').symlink_to(tmp_path)
    for folder in (out / 'link' / 'b', out / 'maps' / '..' / '..' / 'c'):
        with pytest.raises(ValueError, match='outside of'):
            folder_within(out, folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['out']


def test_an_output_may_be_a_link_itself(tmp_path):
    (tmp_path / 'elsewhere').mkdir()
    (tmp_path / 'out').symlink_to('elsewhere')
    folder_within(tmp_path / 'out', tmp_path / 'out' / 'maps')
    assert (tmp_path / 'elsewhere' / 'maps').is_dir()


def test_links_in_place_of_files_are_replaced(tmp_path):
    (tmp_path / 'mine').write_text('mine')
    for name in ('.partial.a', 'a'):
        (tmp_path / name).symlink_to('mine')
    write_whole(tmp_path / 'a', lambda partial: partial.write_text('new'))
    assert (tmp_path / 'mine').read_text() == 'mine'
    assert (tmp_path / 'a').read_text() == 'new'
