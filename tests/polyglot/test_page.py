"""protos/README.md leaves nothing of the contract out."""

from __future__ import annotations

import re

from tests.polyglot.programs import PROTOS

PAGE = (PROTOS / "README.md").read_text()


def test_the_page_names_every_service_and_option() -> None:
    """A proto that is added is added to the page, and says the packages of other languages like the others."""
    for path in PROTOS.glob("dalsegno/v1/*.proto"):
        assert f"`{path.stem}`" in PAGE, path.name
        options = re.findall(r"^option ([a-z_]+) = ", path.read_text(), re.MULTILINE)
        expected = ["csharp_namespace", "go_package", "java_multiple_files", "java_package", "ruby_package"]
        assert options == expected, path.name


def test_the_page_names_the_streams() -> None:
    """Each stream of the contract has its states drawn."""
    for path in PROTOS.glob("dalsegno/v1/*.proto"):
        for rpc in re.findall(r"rpc ([A-Za-z]+)\([^)]*\) returns \(stream ", path.read_text()):
            assert rpc in PAGE or path.stem == "engine_service", rpc
