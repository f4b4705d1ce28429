"""An index's folder: snapshots that are whole or absent, and the name of the current one.

    CURRENT              the number of the current snapshot; replaced atomically
    snapshots/<number>/  one state of the index, never changed once it has its name
    LOCK                 held by the one process that changes the index

A snapshot is written under another name, brought to the disk, renamed, and only then named by CURRENT;
whoever reads sees the state before a change or the one after it, also when the writer is killed in between.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from saga_ray.errors import UserError

CURRENT, SNAPSHOTS, LOCK = "CURRENT", "snapshots", "LOCK"
KEPT = 2
"""Snapshots left in place: the current one and its predecessor, which a reader may be opening just now."""
UNFINISHED = ".part"


@dataclass(frozen=True)
class State:
    """Which snapshot is the current one, and since when: an index that was deleted and built anew counts from
    1 again, so that the number alone does not tell.
    """

    number: int
    since_ns: int


def state(folder: Path) -> State | None:
    """The current state; none where the folder holds no index (yet)."""
    try:
        with (folder / CURRENT).open() as file:  # both are of one file, also when it is replaced meanwhile
            return State(int(file.read()), os.fstat(file.fileno()).st_mtime_ns)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / CURRENT} cannot be read ({error}); build the index anew") from error


def current(folder: Path) -> int | None:
    """The number of the current snapshot; none where the folder holds no index (yet)."""
    now = state(folder)
    return None if now is None else now.number


def path_of(folder: Path, number: int) -> Path:
    """Where a snapshot lies."""
    return folder / SNAPSHOTS / f"{number:06d}"


def must_hold_index(folder: Path) -> State:
    """The current state. Raises UserError where the folder holds no index."""
    now = state(folder)
    if now is None:
        raise UserError(f"{folder} holds no index; make one with `saga index build`")
    return now


def must_be_free(folder: Path) -> None:
    """Raise UserError where a new index cannot be written into the folder."""
    if current(folder) is not None:
        raise UserError(f"{folder} holds an index already; add to it with `saga index add`")
    of_a_killed_writer = {LOCK, SNAPSHOTS, CURRENT + UNFINISHED}
    if folder.is_dir() and {place.name for place in folder.iterdir()} - of_a_killed_writer:
        raise UserError(f"{folder} is not empty; name a folder that does not exist")


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """The folder of a new index, made before the long work of the block; gone again where the block fails and
    has put nothing there. Raises UserError where it cannot be made or written.
    """
    must_be_free(folder)
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise UserError(
            f"no index can be written to {folder}: {error.strerror}; name another folder"
        ) from error
    try:
        yield
    except BaseException:
        if new:
            with suppress(OSError):  # not empty: what a killed writer leaves is known to `must_be_free`
                folder.rmdir()
        raise


@contextmanager
def changing(folder: Path) -> Iterator[None]:
    """Be the only process that changes an index; the lock goes with the process, also when it is killed.

    The folder is there. Raises UserError where another process holds the lock.
    """
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"the index {folder} is being changed by another process; try again when it is done"
            ) from error
        yield


@contextmanager
def new_snapshot(folder: Path) -> Iterator[Path]:
    """A folder to write the next snapshot into; it becomes the current one if the block ends well.

    To be used inside `changing`.
    """
    before = current(folder)
    number = (before or 0) + 1
    snapshots = folder / SNAPSHOTS
    snapshots.mkdir(exist_ok=True)
    _remove_leftovers(snapshots, before)
    place = path_of(folder, number)
    unfinished = place.with_name(place.name + UNFINISHED)
    unfinished.mkdir()
    try:
        yield unfinished
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    for file in unfinished.iterdir():
        _to_disk(file)
    _to_disk(unfinished)
    unfinished.rename(place)
    _to_disk(snapshots)
    _name_current(folder, number)
    for old in _numbers(snapshots):
        if old <= number - KEPT:
            # renamed first: whoever is opening it finds it gone, not damaged
            leaving = path_of(folder, old).with_name(f"{old:06d}.gone{UNFINISHED}")
            path_of(folder, old).rename(leaving)
            shutil.rmtree(leaving, ignore_errors=True)


def _name_current(folder: Path, number: int) -> None:
    aside = folder / f"{CURRENT}{UNFINISHED}"
    aside.write_text(f"{number}\n")
    _to_disk(aside)
    os.replace(aside, folder / CURRENT)
    _to_disk(folder)


def _remove_leftovers(snapshots: Path, before: int | None) -> None:
    """What a killed writer left: unfinished folders, and a finished one that CURRENT never named."""
    for place in snapshots.iterdir():
        if place.name.endswith(UNFINISHED) or (place.name.isdigit() and int(place.name) > (before or 0)):
            shutil.rmtree(place)


def _numbers(snapshots: Path) -> list[int]:
    return sorted(int(place.name) for place in snapshots.iterdir() if place.name.isdigit())


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
