"""Small files that the tests read."""

import io
import struct
import tarfile
import wave
import zlib

import numpy as np
from PIL import Image


def pixels(seed, shape=(6, 5, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write_image(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array).save(path)


def write_images(folder, splits=("",), classes=("cat", "dog"), each=5):
    """`each` images a class and split, all different; returns them by path."""
    images = {}
    for split in splits:
        for name in classes:
            for i in range(each):
                path = f"{split}/{name}/{i}.png".lstrip("/")
                images[path] = pixels(len(images))
                write_image(folder / path, images[path])
    return images


def write_tar(folder, file, inside="."):
    with tarfile.open(file, "w:gz") as tar:
        for path in sorted(folder.rglob("*"), reverse=True):
            tar.add(path, f"{inside}/{path.relative_to(folder)}", recursive=False)


def write_wav(path, samples, *, rate=8000, width=2, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", ""))
        file.writeframes(samples)


def png_of_size(width, height):
    """A PNG that says it is large: only its header is changed."""
    stream = io.BytesIO()
    Image.new("RGB", (1, 1)).save(stream, "PNG")
    content = bytearray(stream.getvalue())
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)
