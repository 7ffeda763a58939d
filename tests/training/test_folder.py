"""What a run of `glasscell train` leaves in its folder: whole, of one run, and nothing else, whenever it is killed."""

import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from textwrap import indent

import pytest

from glasscell._files import FINISHED, UNFINISHED, staged, write_whole
from glasscell._training import train as training
from glasscell._training.train import FILES, train
from quiet import train_quietly

unix = pytest.mark.skipif(os.name == "nt", reason="no locks on folders, and no SIGKILL")

# Writes the text into the three files of a run; killed before the n-th thing that it does to the disk's
RUN = """
import os, signal, sys
from pathlib import Path
from glasscell._files import staged
folder, text, n = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
left = n
def kill(event, arguments):
    global left
    if event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.scandir") and left >= 0:
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
sys.addaudithook(kill)
with staged(folder) as stage:
    for name in ("model.keras", "metrics.json", "report.html"):
        (stage / name).write_text(text)
print(n - left)
"""


def run(folder, text, n=-1):
    arguments = [sys.executable, "-c", RUN, folder, text, str(n)]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=60)


def write(stage, text):
    for name in FILES:
        (stage / name).write_text(text)


def shown(folder):
    """The texts of the files of a run that stand in the folder."""
    return {name: (folder / name).read_text() for name in FILES if (folder / name).exists()}


def whole(text):
    return dict.fromkeys(FILES, text)


def stop_early(folder, before=lambda: None):
    """A run that fails, and before that takes up what others left."""

    with pytest.raises(ZeroDivisionError), staged(folder):
        _ = before(), 1 / 0


@unix
@pytest.mark.parametrize("older", [False, True])
def test_killed_at_every_step(tmp_path, older):
    """What is shown is of one run, and whole unless the new one lies finished beside it, which the next run puts in
    place; other files stay; and the next run, though it fails itself, leaves nothing of the dead one."""
    steps, seen = 0, set()
    while True:
        folder = tmp_path / str(steps) / "run"
        if older:
            folder.mkdir(parents=True)
            write(folder, "old")
            (folder / "notes.txt").write_text("mine")
        done = run(folder, "new", steps)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        before = shown(folder)
        assert len(set(before.values())) <= 1
        if not (folder / FINISHED).exists():
            assert before in (whole("new"), whole("old") if older else {})
        stop_early(folder)
        after = shown(folder)
        assert after in (whole("new"), whole("old") if older else {})
        if "new" in before.values() or (folder / FINISHED).exists():
            assert after == whole("new")
        kept = {"notes.txt"} if older else set()
        if folder.exists():
            assert {path.name for path in folder.iterdir()} == set(after) | kept
        seen.add((len(before), after.get("model.keras")))
        steps += 1
    assert shown(folder) == whole("new")
    assert steps >= 10
    assert {(0, "new"), (1, "new"), (2, "new"), (3, "new")} <= seen


@unix
def test_a_run_that_lives_is_left_alone(tmp_path):
    """Another that starts, fails or ends beside it removes nothing of it; the last to end is what stays."""
    with staged(tmp_path) as one:
        write(one, "one")
        stop_early(tmp_path)
        with staged(tmp_path) as two:
            write(two, "two")
            assert one.is_dir()
            assert one != two
        assert shown(tmp_path) == whole("two")
        assert set(shown(one)) == set(FILES)
    assert shown(tmp_path) == whole("one")
    assert {path.name for path in tmp_path.iterdir()} == set(FILES)


@unix
def test_many_runs_at_once(tmp_path):
    head, body = RUN.split("left = n")[0], "with staged" + RUN.split("with staged")[1].partition("print")[0]
    script = f"{head}for text in (f'{{text}} {{k}}' for k in range(40)):\n" + indent(body, "    ")
    processes = [subprocess.Popen([sys.executable, "-c", script, tmp_path, str(n), "0"]) for n in range(4)]
    assert [process.wait(timeout=60) for process in processes] == [0] * 4
    assert {path.name for path in tmp_path.iterdir()} == set(FILES)
    assert len(set(shown(tmp_path).values())) == 1


@unix
def test_two_processes_lock_each_other_out(tmp_path):
    """One that is alive but stopped keeps its folder; killed, it does not."""
    script = (
        "import sys, time; from pathlib import Path; from glasscell._files import staged\n"
        "with staged(Path(sys.argv[1])) as stage: print(stage.name, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE, text=True) as process:
        stage = tmp_path / process.stdout.readline().strip()
        stop_early(tmp_path)
        assert stage.is_dir()
        process.kill()
        process.wait()
        stop_early(tmp_path)
        assert not stage.exists()


@pytest.mark.parametrize("at", range(1, 7))
def test_interrupted_while_it_is_put_in_place(tmp_path, monkeypatch, at):
    """Before the rename nothing has happened; after it the run is over, and Ctrl-C comes too late."""
    write(tmp_path, "old")
    left = at

    def interrupted(function):
        def wrapped(*arguments, **options):
            nonlocal left
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
            return function(*arguments, **options)

        return wrapped

    with pytest.raises(KeyboardInterrupt) if at == 1 else nullcontext(), staged(tmp_path) as stage:
        write(stage, "new")
        for place, name in ((os, "rename"), (os, "replace"), (Path, "unlink")):
            monkeypatch.setattr(place, name, interrupted(getattr(place, name)))
    assert left <= 0
    assert shown(tmp_path) == whole("old" if at == 1 else "new")
    assert {path.name for path in tmp_path.iterdir()} == set(FILES)


def test_folders_that_were_made_go_again(tmp_path):
    """All of them, and none that was there before or that others use."""
    (tmp_path / "a").mkdir()
    stop_early(tmp_path / "a" / "b" / "c")
    assert list((tmp_path / "a").iterdir()) == []
    stop_early(tmp_path / "a" / "b", lambda: (tmp_path / "a" / "b" / "mine").write_text("mine"))
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["mine"]


@unix
def test_through_a_link(tmp_path):
    """The link stays a link, and so does what it leads to; a file of a run that is a link is replaced itself."""
    (tmp_path / "there").mkdir()
    (tmp_path / "here").symlink_to("there")
    (tmp_path / "elsewhere").write_text("mine")
    (tmp_path / "there" / "model.keras").symlink_to(tmp_path / "elsewhere")
    with staged(tmp_path / "here") as stage:
        write(stage, "new")
    assert (tmp_path / "here").is_symlink()
    assert shown(tmp_path / "there") == whole("new")
    assert (tmp_path / "elsewhere").read_text() == "mine"
    (tmp_path / "lost").symlink_to("nowhere")
    with pytest.raises(ValueError, match=r"^output: expected a folder, got .*lost', and .*lost' is a link to nothing$"):
        train(tmp_path / "lost")


@pytest.mark.parametrize("name", FILES)
def test_a_folder_where_a_file_is_to_be(tmp_path, name):
    """Said before the training, not after it."""
    (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match=rf"^output: expected a place for the file {name}, and .*{name}' is a folder$"):
        train(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_folder_that_cannot_be_written(monkeypatch):
    """Said before the training."""
    monkeypatch.setattr(training, "build_model", lambda *_: pytest.fail("it trained"))
    for folder in ("/proc/nothing", "/proc"):
        with pytest.raises(OSError, match="/proc"):
            train_quietly(folder)


@unix
def test_train_killed_in_the_middle(tmp_path, monkeypatch):
    """What it leaves is gone with the next run."""
    script = (
        "import os, sys; from glasscell._training import train\n"
        "train.build_model = lambda *_: os.kill(os.getpid(), 9)\n"
        "train.train(sys.argv[1])"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True)
    assert done.returncode == -signal.SIGKILL
    assert [path.name.startswith(UNFINISHED) for path in tmp_path.iterdir()] == [True]
    monkeypatch.setattr(training, "build_model", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train_quietly(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    """By the path that was asked for, not by that of a temporary file; an older file stays."""
    file, folder = tmp_path / "page.html", tmp_path / "none"
    file.write_text("old")
    for path, error, message in (
        (
            folder / "page.html",
            FileNotFoundError,
            f"expected a file in a folder that exists, got .*: make '{folder}' first",
        ),
        (file / "page.html", FileNotFoundError, "path: expected a file in a folder that exists"),
        (tmp_path, IsADirectoryError, f"path: expected the name of a file, got the folder '{tmp_path}'"),
    ):
        with pytest.raises(error, match=message):
            write_whole(path, "new")
    with monkeypatch.context() as disk:
        disk.setattr(os, "replace", fail_with(OSError(28, "No space left on device", "temporary")))
        with pytest.raises(OSError, match=rf"^\[Errno 28\] No space left on device: '{file}'$"):
            write_whole(file, "new")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    assert file.read_text() == "old"


def fail_with(error):
    def fail(*_):
        raise error

    return fail
