"""Download the images of the manifest: ``python -m training.sam_nano.photographs FOLDER``.

Debian's package manager fetches the packages; nothing is installed, and nothing is published.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from fastseg.storage.atomic import atomic_file
from training.sam_nano.photographs import manifest, resources
from training.sam_nano.photographs.manifest import Entry

TOOLS = ("apt-get", "dpkg-deb")


def missing_tools() -> list[str]:
    """Return the tools of Debian that this machine lacks."""
    return [tool for tool in TOOLS if shutil.which(tool) is None]


def unpack(package: str, folder: Path) -> None:
    """Fetch a package and unpack its files into a folder, without installing it.

    Raises:
        subprocess.CalledProcessError: The package cannot be fetched or read.
    """
    with tempfile.TemporaryDirectory() as fetched:
        _run("apt-get", "download", package, folder=Path(fetched))
        (archive,) = Path(fetched).glob("*.deb")
        _run("dpkg-deb", "-x", archive, folder, folder=folder)


def _run(tool: str, *words: str | Path, folder: Path) -> None:
    path = shutil.which(tool) or tool
    subprocess.run([path, *map(str, words)], cwd=folder, check=True)  # noqa: S603 - our own words


def take(entry: Entry, unpacked: Path, out: Path) -> int:
    """Copy the images of an entry to ``out/kind/package``; return their number.

    Raises:
        FileNotFoundError: The package holds no such file.
    """
    found = _find(entry, unpacked)
    if not found:
        raise FileNotFoundError(
            f"{entry.package} holds no {entry.file}; its version differs from the manifest's"
        )
    for path, content in found.items():
        place = out / entry.kind / entry.package / "-".join(Path(path).parts[3:])
        with atomic_file(place) as partial:
            partial.write_bytes(content)
    return len(found)


def _find(entry: Entry, unpacked: Path) -> dict[str, bytes]:
    """Return the contents of the files of an entry by their paths in the package."""
    outer, _, inner = entry.file.partition(manifest.INSIDE)
    files = sorted(path for path in unpacked.glob(outer) if path.is_file())
    if not inner:
        return {str(path.relative_to(unpacked)): path.read_bytes() for path in files}
    return {
        path: content
        for file in files
        for path, content in resources.members(file).items()
        if path == inner
    }


def download(entries: Iterable[Entry], out: Path) -> int:
    """Fetch the images of a manifest into a folder; return their number."""
    count = 0
    ordered = sorted(entries, key=lambda entry: entry.package)
    for package, group in groupby(ordered, key=lambda entry: entry.package):
        with tempfile.TemporaryDirectory() as unpacked:
            unpack(package, Path(unpacked))
            count += sum(take(entry, Path(unpacked), out) for entry in group)
    return count


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and download."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder for the images")
    arguments = parser.parse_args(argv)
    if missing := missing_tools():
        parser.error(f"{', '.join(missing)} not found: the images come from Debian's packages")
    print(f"{download(manifest.read(), arguments.out)} images in {arguments.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
