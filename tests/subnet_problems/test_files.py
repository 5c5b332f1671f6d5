"""A file is written whole or not at all, and nothing else of the process changes meanwhile."""

import os
import threading

import pytest

from subnet_problems._files import whole_file, write_whole


@pytest.mark.parametrize("before", [None, b"older"])
def test_an_error_while_writing_leaves_what_was_there_and_nothing_else(tmp_path, before):
    path = tmp_path / "policy.bin"
    if before is not None:
        path.write_bytes(before)

    def write_half():
        with whole_file(path) as temporary:
            temporary.write_bytes(b"half")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        write_half()
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == ([(path.name, before)] if before else [])


def test_the_path_appears_only_once_the_content_is_whole(tmp_path):
    path = tmp_path / "picture.png"
    with whole_file(path) as temporary:
        assert temporary.suffix == ".png"
        temporary.write_bytes(b"all of it")
        assert not path.exists()
    assert path.read_bytes() == b"all of it"
    assert list(tmp_path.iterdir()) == [path]


def test_other_threads_never_see_another_umask(tmp_path):
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
