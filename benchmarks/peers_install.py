"""From an empty virtual environment to the first losses, for contenders of `peers.py`.

    python benchmarks/peers_install.py

For each: makes a virtual environment, installs the library with all that it asks for
(pip, nothing from its cache), and runs the contender until it has said its first four
losses of the smallest problem. Prints the seconds of each part and the size of the
environment. Downloads depend on the network; so do these seconds.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile
import time

FOLDER = pathlib.Path(__file__).parent
INSTALLED = {
    "jaxkd": [str(FOLDER.parent)],
    "jax by hand": ["jax", "flax", "optax"],
    "keras": ["keras", "jax"],
    "tunix": ["google-tunix"],
    "torchdistill": ["torchdistill"],
}


def megabytes(folder):
    files = (path for path in folder.rglob("*") if not path.is_symlink())
    return sum(path.stat().st_size for path in files if path.is_file()) / 2**20


def seconds(command, **options):
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, text=True, **options)
    return time.perf_counter() - began


def try_out(name, limit):
    with tempfile.TemporaryDirectory() as folder:
        seconds([sys.executable, "-m", "venv", folder])
        python = f"{folder}/bin/python"
        install = [python, "-m", "pip", "install", "-q", "--no-cache-dir"]
        empty = megabytes(pathlib.Path(folder))
        installed = seconds([*install, *INSTALLED[name]], timeout=limit)
        size = megabytes(pathlib.Path(folder)) - empty
        command = [python, str(FOLDER / "peers.py"), "--contender", name]
        command += ["--pairs", "mlp", "--methods", "kd", "--quick", "--steps", "1"]
        first = seconds(command, input="stop\n", timeout=limit)
    return installed, first, size


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contenders", nargs="+", default=list(INSTALLED))
    parser.add_argument("--limit", type=float, default=600, help="seconds for a part")
    parsed = parser.parse_args()
    print("| contender | s to install | s to the first losses | MB |")
    print("| --- | ---: | ---: | ---: |")
    for name in parsed.contenders:
        try:
            installed, first, size = try_out(name, parsed.limit)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            said = str(error.stderr or error).strip().splitlines()[-1]
            print(f"| {name} | failed: {said} | | |", flush=True)
        else:
            print(
                f"| {name} | {installed:.0f} | {first:.0f} | {size:.0f} |", flush=True
            )


if __name__ == "__main__":
    main()
