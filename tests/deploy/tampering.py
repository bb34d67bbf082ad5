"""Artefacts changed by someone who knows how to write checksums."""

import hashlib
import json


def reseal(folder, manifest):
    rest = {name: value for name, value in manifest.items() if name != "sha256"}
    digest = hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
    text = json.dumps({**rest, "sha256": digest})
    (folder / "manifest.json").write_text(text)


def replace_file(folder, name, content):
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    found = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    reseal(folder, {**manifest, "files": {**manifest["files"], name: found}})
