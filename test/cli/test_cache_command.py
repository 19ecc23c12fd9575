"""stator cache: what it says of an empty folder, of engines and of damaged ones, and that clear
clears."""

import torch
import torch_stator


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


def compile_in(folder):
    x = torch.randn(3, 4)
    model = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.GELU()).eval()
    program = torch_stator.compile(model, (x,), min_block_size=1, cache_dir=folder)
    with torch.no_grad():
        torch.testing.assert_close(program(x), model(x))
    return program.report["parts"][0]["cache"]


def test_a_damaged_byte_is_found_and_made_good(stator, tmp_path):
    folder = tmp_path / "cache"
    assert compile_in(folder) == "miss: not cached"
    (path,) = folder.glob("*.engine")
    listed = stator("cache", "ls", "--dir", folder).stdout
    assert f"{path}  " in listed
    assert "steps, 2 weights; stator " in listed
    assert "1 engines, 0 damaged" in stator("cache", "verify", "--dir", folder).stdout
    data = bytearray(path.read_bytes())
    for at in range(0, len(data), 7):
        damaged = bytearray(data)
        damaged[at] ^= 16
        path.write_bytes(damaged)
        done = stator("cache", "verify", "--dir", folder, status=1)
        assert f"{path}: " in done.stdout
        assert "1 engines, 1 damaged" in done.stdout
    assert compile_in(folder).startswith(f"miss: {path} cannot be used: ")
    assert "1 engines, 0 damaged" in stator("cache", "verify", "--dir", folder).stdout
    assert compile_in(folder) == "hit"
