"""stator cache: what it says of an empty folder and of a damaged engine, and that clear clears."""


def test_a_folder_that_is_not_there_is_empty(stator, tmp_path):
    folder = tmp_path / "none"
    assert "0 engines" in stator("cache", "ls", "--dir", folder).stdout
    assert "0 engines, 0 damaged" in stator("cache", "verify", "--dir", folder).stdout
    assert not folder.exists()


def test_a_damaged_engine(stator, tmp_path):
    (tmp_path / "0-0.engine").write_bytes(b"no engine")
    assert "damaged: 9 bytes" in stator("cache", "ls", "--dir", tmp_path).stdout
    done = stator("cache", "verify", "--dir", tmp_path, status=1)
    assert "1 of 1 cached engines are damaged" in done.stderr
    assert "1 files removed" in stator("cache", "clear", "--dir", tmp_path).stdout
    assert list(tmp_path.iterdir()) == []
