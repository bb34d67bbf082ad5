"""Disks that are full, or cannot be written to, and checkpoints of other versions."""

import contextlib
import hashlib
import json
import os
import subprocess

import chex
import numpy as np
import pytest
from jax import numpy as jnp

from jaxkd import checkpoint

# Orbax leaves futures and threads behind when writing fails.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
]
STATE = {"w": jnp.arange(2**18, dtype=jnp.float32)}  # 1 MiB


@contextlib.contextmanager
def small_disk(folder, options):
    """A disk of its own; root alone may mount one."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no tmpfs here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder, how):
    command = ["mount", "-o", f"remount,{how}", str(folder)]
    subprocess.run(command, check=True)


def save(folder, *steps):
    with checkpoint.Checkpointer(folder, keep=9) as checkpointer:
        for step in steps:
            checkpointer.save(step, {"w": STATE["w"] + step})


def restore(folder, **kwargs):
    with checkpoint.Checkpointer(folder, keep=9, **kwargs) as checkpointer:
        return checkpointer.restore(STATE)


def content(folder):
    """The digest of each file under a folder, by name."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file()
    }


def edit_manifest(folder, **changes):
    """Writes a manifest as another version of jaxkd would have."""
    file = folder / "_CHECKPOINT_METADATA"
    whole = json.loads(file.read_text())
    manifest = json.loads(whole["custom_metadata"]["manifest"])
    text = json.dumps({**manifest, **changes}, sort_keys=True)
    checksum = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    whole["custom_metadata"] = {"manifest": text, "checksum": checksum}
    file.write_text(json.dumps(whole))


def test_a_full_disk_is_reported_and_loses_nothing(tmp_path):
    with small_disk(tmp_path / "disk", "size=3m") as disk:
        save(disk, 1)
        before = content(disk / "1")
        with pytest.raises(checkpoint.CheckpointError, match="No space left"):
            save(disk, 2, 3, 4, 5)
        assert content(disk / "1") == before
        restored = restore(disk)
        assert restored.step >= 1
        np.testing.assert_array_equal(restored.state["w"][0], restored.step)
        # With room again, the run goes on in the same folder.
        remount(disk, "size=20m")
        save(disk, 6)
        assert restore(disk).step == 6


def test_a_disk_that_can_only_be_read(tmp_path):
    with small_disk(tmp_path / "disk", "size=20m") as disk:
        save(disk / "run", 1, 2)
        next((disk / "run" / "2" / "state").rglob("d/*")).write_bytes(b"")
        before = content(disk)
        remount(disk, "ro")
        with pytest.raises(checkpoint.CheckpointError, match="Read-only file system"):
            save(disk / "run", 3)
        with pytest.raises(checkpoint.CheckpointError, match="cannot write checkpoint"):
            save(disk / "new", 1)
        # What is whole can be read, and what is damaged is named and passed over.
        with pytest.warns(UserWarning, match=r"2 is damaged: it could not be renamed"):
            restored = restore(disk / "run")
        assert restored.step == 1
        chex.assert_trees_all_equal(restored.state["w"], STATE["w"] + 1)
        assert content(disk) == before


@pytest.mark.parametrize("version", [0, 2])
def test_another_format_is_named_and_left_as_it_is(tmp_path, version):
    save(tmp_path, 1, 2)
    edit_manifest(tmp_path / "2", format=version, jaxkd="0.0.1")
    before = content(tmp_path)
    with pytest.raises(
        checkpoint.CheckpointError,
        match=rf"2 has format {version} \(jaxkd 0\.0\.1\); this version reads format 1",
    ):
        restore(tmp_path)
    assert content(tmp_path) == before


def test_a_checkpoint_that_jaxkd_did_not_write(tmp_path):
    save(tmp_path, 1, 2)
    file = tmp_path / "2" / "_CHECKPOINT_METADATA"
    whole = json.loads(file.read_text())
    file.write_text(json.dumps({**whole, "custom_metadata": {}}))
    with pytest.warns(UserWarning, match="2 is damaged"):
        assert restore(tmp_path).step == 1


def test_an_error_leaves_every_file_as_it_was(tmp_path):
    with checkpoint.Checkpointer(tmp_path, teacher="abc") as checkpointer:
        checkpointer.save(1, STATE)
    before = content(tmp_path)
    with pytest.raises(checkpoint.CheckpointError, match="another teacher"):
        restore(tmp_path, teacher="xyz")
    with (
        checkpoint.Checkpointer(tmp_path, teacher="abc") as checkpointer,
        pytest.raises(checkpoint.CheckpointError, match="another model"),
    ):
        checkpointer.restore({"w": STATE["w"], "v": STATE["w"]})
    assert content(tmp_path) == before
