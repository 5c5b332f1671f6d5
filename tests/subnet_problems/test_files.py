"""A file is written completely or not at all, without side effects on the process."""

import os
import threading
from pathlib import Path

import pytest

from subnet_problems._files import check_file, check_folder, whole_file, write_whole


def write_half(path):
    with whole_file(path) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError("half way")


@pytest.mark.parametrize("before", [None, b"older"])
def test_an_error_while_writing_leaves_only_the_old_file(tmp_path, before):
    path = tmp_path / "policy.bin"
    if before is not None:
        path.write_bytes(before)
    with pytest.raises(RuntimeError, match="half way"):
        write_half(path)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == ([(path.name, before)] if before else [])


def test_the_file_appears_only_after_its_content_is_complete(tmp_path):
    path = tmp_path / "picture.png"
    with whole_file(path) as temporary:
        assert temporary.suffix == ".png"
        temporary.write_bytes(b"all of it")
        assert not path.exists()
    assert path.read_bytes() == b"all of it"
    assert list(tmp_path.iterdir()) == [path]


def test_writing_does_not_change_the_umask(tmp_path):
    before = os.umask(0o027)
    seen, done = set(), threading.Event()

    def look():
        while not done.is_set():
            with open("/proc/self/status") as file:
                seen.add(next(line.split()[1] for line in file if line.startswith("Umask")))

    thread = threading.Thread(target=look)
    try:
        thread.start()
        for number in range(200):
            write_whole(tmp_path / str(number), b"")
    finally:
        done.set()
        thread.join()
        os.umask(before)
    assert seen == {"0027"}
    assert (tmp_path / "0").stat().st_mode & 0o777 == 0o640


def test_paths_are_checked_without_writing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "file"
    file.touch()
    for path in (file, tmp_path / "new" / "policy.bin", Path("policy.bin")):
        assert check_file("path", path) == path
    for path in (tmp_path, tmp_path / "new" / "folder", Path("folder")):
        assert check_folder("path", path) == path
    assert list(tmp_path.iterdir()) == [file]
    with pytest.raises(IsADirectoryError, match=f"^path: expected a file, got the folder {tmp_path}$"):
        check_file("path", tmp_path)
    for refused in (file, file / "folder"):
        with pytest.raises(NotADirectoryError, match=f"^--output: expected a path of folders, got .*{file} is a file$"):
            check_folder("--output", refused)
    with pytest.raises(NotADirectoryError, match=r"^path: "):
        check_file("path", file / "policy.bin")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match=r"^path: expected a folder that can be written to"):
        check_folder("path", tmp_path / "new")


def test_errors_name_the_requested_file(tmp_path):
    path = tmp_path / "missing" / "policy.st"
    with pytest.raises(FileNotFoundError) as caught:
        write_whole(path, b"")
    assert caught.value.filename == str(path)
