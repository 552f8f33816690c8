"""Locks of single bytes: two files of one process exclude each other, and a closed file holds nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiofluence.lifecycle.file_locks import SEES_OWN_PROCESS, is_locked, try_lock, unlock, wait_for_lock

pytestmark = pytest.mark.skipif(not SEES_OWN_PROCESS, reason="this system's locks belong to the process")


@pytest.fixture
def files(tmp_path: Path) -> Iterator[tuple[int, int]]:
    (path := tmp_path / "locked").touch()
    files = os.open(path, os.O_RDWR), os.open(path, os.O_RDWR)
    yield files
    for file in files:
        os.close(file)


def test_a_byte_is_locked_once(files: tuple[int, int]) -> None:
    ours, theirs = files
    assert try_lock(ours, 5)
    assert is_locked(theirs, 5)
    assert not is_locked(theirs, 6)
    assert not wait_for_lock(theirs, 5, patience=3)
    assert wait_for_lock(theirs, 6, patience=3)
    unlock(ours, 5)
    assert not is_locked(theirs, 5)
    assert wait_for_lock(theirs, 5, patience=3)


def test_shared_locks_exclude_a_lone_one(files: tuple[int, int]) -> None:
    ours, theirs = files
    assert try_lock(ours, 5, shared=True)
    assert try_lock(theirs, 5, shared=True)
    assert not wait_for_lock(theirs, 5, patience=1)
    unlock(ours, 5)
    assert wait_for_lock(theirs, 5, patience=1)
