"""Builds the sdist, from it the two wheels, and checks what they contain.

Usage: distributions.py DIRECTORY
"""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path


def build(kind: str, source: Path, target: Path, implementation: str) -> Path:
    """Build one distribution and return its path."""
    environment = os.environ | {"INFLIGHT_BUILD": implementation}
    command = [sys.executable, "-m", "build", f"--{kind}", "--outdir", target, source]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    (built,) = target.iterdir()
    return built


def names(wheel: Path) -> set[str]:
    """The files in a wheel, without its metadata."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def main() -> None:
    """Build and check."""
    target = Path(sys.argv[1])
    root = Path(__file__).parent.parent
    ours = {path.relative_to(root).as_posix() for path in (root / "inflight").rglob("*.py")} | {"inflight/py.typed"}

    sdist = build("sdist", root, target / "sdist", "native")
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
        archive.extractall(target / "source", filter="data")
    (source,) = (target / "source").iterdir()
    needed = subprocess.run(["git", "ls-files"], cwd=root, check=True, capture_output=True, text=True).stdout.split()
    missing = {name for name in needed if name not in packed and not name.startswith(".git")}
    assert not missing, f"not in the sdist: {sorted(missing)}"
    extra = {name for name in packed if name.endswith((".c", ".so", ".pyc"))}
    assert not extra, f"built files in the sdist: {sorted(extra)}"

    pure = build("wheel", source, target / "pure", "pure")
    assert pure.name.endswith("-py3-none-any.whl"), pure.name
    assert names(pure) == ours, names(pure) ^ ours

    native = build("wheel", source, target / "native", "native")
    (extension,) = names(native) - ours
    assert extension.startswith("inflight/_native."), extension
    assert ours < names(native), ours - names(native)
    print(sdist.name, pure.name, native.name, sep="\n")


main()
