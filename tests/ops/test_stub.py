"""The committed stub describes the native module that was built."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import fastseg


def test_the_stub_names_every_native_function_and_its_arguments():
    native = importlib.import_module("fastseg._core")
    built = {
        name: re.findall(r"(\w+): ", function.__doc__.splitlines()[0])
        for name, function in vars(native).items()
        if type(function).__name__ == "nb_func"
    }
    stub = ast.parse((Path(fastseg.__file__).parent / "_core.pyi").read_text())
    written = {
        node.name: [argument.arg for argument in node.args.args]
        for node in stub.body
        if isinstance(node, ast.FunctionDef)
    }
    assert written == built
    assert "binarise" in written


def test_the_stub_names_every_native_value_and_its_keywords():
    native = importlib.import_module("fastseg._core")
    built = {
        name: re.findall(r"(\w+): ", kind.__init__.__doc__ or "")
        for name, kind in vars(native).items()
        if isinstance(kind, type)
    }
    stub = ast.parse((Path(fastseg.__file__).parent / "_core.pyi").read_text())
    written = {
        node.name: [
            argument.arg
            for member in node.body
            if isinstance(member, ast.FunctionDef) and member.name == "__init__"
            for argument in member.args.kwonlyargs
        ]
        for node in stub.body
        if isinstance(node, ast.ClassDef)
    }
    assert written == built
    assert written["Frame"] == ["image", "crop", "side", "resized"]
