"""The container's words are those of the command, and it runs without rights."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from fastseg.cli.serve import serve
from tests.helpers.page import ROOT
from tests.test_docs import known_extras

DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")


def words(instruction: str) -> list[str]:
    found = re.search(rf"{instruction} (\[.+\])$", DOCKERFILE, flags=re.MULTILINE)
    assert found
    return json.loads(found[1])


def test_the_command_takes_every_word():
    program, verb, *options = words("ENTRYPOINT")
    assert (program, verb) == ("fastseg", "serve")
    parsed = serve.make_context("serve", [*options], resilient_parsing=False).params
    assert parsed["host"] == "0.0.0.0"
    assert parsed["token_file"] is not None
    assert f"EXPOSE {parsed['port']}" in DOCKERFILE


def test_the_extras_exist_and_the_user_has_no_rights():
    for extras in re.findall(r"\[([a-z,]+)\]\"", DOCKERFILE):
        assert set(extras.split(",")) <= known_extras()
    assert DOCKERFILE.index("\nUSER fastseg") < DOCKERFILE.index("\nENTRYPOINT")


def test_the_health_check_asks_a_server(url):
    program, *rest = words("CMD")
    assert program == "python"
    check = [word.replace("http://127.0.0.1:8765", url) for word in rest]
    assert check != rest
    assert subprocess.run([sys.executable, *check]).returncode == 0
    away = [word.replace("8765", "1") for word in rest]
    assert subprocess.run([sys.executable, *away], stderr=subprocess.DEVNULL).returncode == 1


def test_the_composition_opens_one_port_to_this_machine():
    yaml = pytest.importorskip("yaml", reason="needs PyYAML")
    composed = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text(encoding="utf-8"))
    (service,) = composed["services"].values()
    assert service["ports"] == ["127.0.0.1:8765:8765"]
    assert (
        ROOT / "docker" / service["build"]["context"] / service["build"]["dockerfile"]
    ).is_file()
    (secret,) = service["secrets"]
    assert f"/run/secrets/{secret}" in words("ENTRYPOINT")
    assert composed["secrets"][secret]["file"] == "./tokens"
