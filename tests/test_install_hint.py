"""The hint how to install fits how fastseg was installed, and a missing build is named."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import fastseg
from fastseg import environment
from fastseg.environment import install_hint

PACKAGE = Path(fastseg.__file__).parent


class Distribution:
    """An installed fastseg with the origin that its installer noted."""

    def __init__(self, origin: object) -> None:
        self.origin = origin

    def read_text(self, name: str) -> str | None:
        return json.dumps(self.origin) if self.origin and name == "direct_url.json" else None


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """Install fastseg from an origin, away from any clone."""

    def install(origin: object) -> None:
        monkeypatch.setattr(environment, "_SOURCE", tmp_path / "site-packages")
        monkeypatch.setattr(metadata, "distribution", lambda _: Distribution(origin))

    return install


@pytest.fixture
def clone(tmp_path) -> Path:
    folder = tmp_path / "my clone"
    folder.mkdir()
    (folder / "pyproject.toml").write_text("")
    return folder


@pytest.mark.parametrize("how", [{"editable": True}, {}])
def test_from_a_clone_it_is_a_command_in_that_folder(installed, clone, how):
    installed({"url": clone.as_uri(), "dir_info": how})
    assert install_hint("export") == f"In your clone, {clone}: pip install -e '.[export]'"
    assert install_hint() == f"In your clone, {clone}: pip install -e ."


@pytest.mark.parametrize(
    "origin",
    [
        None,
        {"url": "https://example.org/fastseg.whl", "archive_info": {}},
        {"url": "file:///nowhere/that/exists", "dir_info": {"editable": True}},
        {"dir_info": {}},
        ["damaged"],
    ],
)
def test_elsewhere_no_distribution_is_named(installed, origin):
    installed(origin)
    assert install_hint("export") == "Install fastseg with its extra 'export'"
    assert install_hint() == "Install fastseg again"


def test_a_source_tree_that_is_not_installed_is_a_clone(monkeypatch, clone):
    def none_installed(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(environment, "_SOURCE", clone)
    monkeypatch.setattr(metadata, "distribution", none_installed)
    assert str(clone) in install_hint("cpu")


def test_a_source_folder_without_kernels_names_the_remedy(tmp_path):
    source = tmp_path / "clone"
    shutil.copytree(
        PACKAGE, source / "fastseg", ignore=shutil.ignore_patterns("*.so", "models", "__pycache__")
    )
    (source / "pyproject.toml").write_text("")
    # Without site packages, so that an editable install does not lend its kernels.
    call = [sys.executable, "-S", "-c", "import fastseg.ops"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run = subprocess.run(
        call, cwd=source, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    last = run.stderr.splitlines()[-1]
    assert last.startswith("ImportError: the native kernels")
    assert f"source folder that Python imports fastseg from, {source}" in last
    assert "pip install -e ." in last
    assert "another folder" in last
