"""Write all hostile files into a folder: `python -m attacks FOLDER`."""

import sys
from pathlib import Path

from attacks import ATTACKS

_ENDINGS = {"pickle": "pt", "archive": "pt", "safetensors": "safetensors", "onnx": "onnx"}

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for attack in ATTACKS:
        (folder / f"{attack.name}.{_ENDINGS[attack.kind]}").write_bytes(attack.make())
        print(f"{attack.name}: {attack.would}")
