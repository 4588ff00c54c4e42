"""How much disk a package takes with everything it declares: python -m benchmarks.install_size PACKAGE."""

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path


def megabytes(package, python, undeclared=()):
    """Ask an interpreter; None if it does not have the package. samlet counts as its wheel's sources.

    `undeclared` are packages that it cannot do without and does not say so.
    """
    if package == "samlet":
        own = sum(path.stat().st_size for path in Path("src/samlet").rglob("*") if counts(path))
        needs = ("numpy", "pillow", "onnxruntime", "safetensors", "rich")
        return (own + sum(sizes_of(needs).values())) / 1e6
    words = [python, "-m", "benchmarks.install_size", package, *undeclared]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return float(done.stdout) if done.returncode == 0 else None


def counts(path):
    """Whether a file is one that an installation has before it is run."""
    return path.is_file() and path.suffix != ".pyc"


def sizes_of(packages):
    """Bytes by distribution, of some and of all they need, extras left out; what is declared but absent weighs 0."""
    found, waiting = {}, [name.lower() for name in packages]
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop())
        if name in found:
            continue
        try:
            dist = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            found[name] = 0
            continue
        files = [Path(str(dist.locate_file(file))) for file in dist.files or []]
        found[name] = sum(path.stat().st_size for path in files if counts(path))
        for need in dist.requires or []:
            if "extra ==" not in need:
                waiting.append(re.match(r"[\w.-]+", need)[0].lower())
    return found


if __name__ == "__main__":
    metadata.distribution(sys.argv[1])
    print(sum(sizes_of(sys.argv[1:]).values()) / 1e6)
