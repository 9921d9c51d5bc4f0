"""Parsers: what is not a model of the format must be said, never half read."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tenonrt.contracts import ParseError, Parser
from tenonrt.graph.network import Network
from tenonrt.graph.verification import verify
from tenonrt.plugins.discovery import Entry
from tenonrt.plugins.registry import Registry

from tenonrt_testing.subjects import instance, load

GROUP = "tenonrt.parsers"
# A distribution may offer files of its formats: the entry point named as the parser, whose value returns their paths.
FIXTURES = "tenonrt.fixtures"
_OTHERS = {
    "empty": b"",
    "png": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(64),
    "zip": b"PK\x03\x04\x14\x00\x00\x00\x08\x00" + bytes(64),
    "json": b'{"format": "something", "layers": [1, 2, 3]}\n',
    "elf": b"\x7fELF\x02\x01\x01" + bytes(64),
    "text": b"The quick brown fox jumps over the lazy dog.\n" * 20,
    "zeros": bytes(4096),
    **{f"random {seed}": random.Random(seed).randbytes(4096) for seed in range(10)},
}
_bytes = settings(
    max_examples=100, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def parser(entry: Entry) -> Parser:
    found: Parser = instance(entry)
    return found


@pytest.fixture
def files(entry: Entry, registry: Registry) -> Sequence[Path]:
    offered = [e for e in registry.entries(FIXTURES) if e.name == entry.name]
    if not offered:
        pytest.skip(f"no distribution offers {FIXTURES} for {entry.name!r}")
    return [Path(path) for e in offered for path in load(e)()]


def _parse(parser: Parser, path: Path, registry: Registry) -> str:
    """What is wrong with how a file was refused or read; empty when nothing is."""
    network = Network(registry=registry)
    try:
        parser.parse(path, network)
        verify(network.graph)
    except ParseError as error:
        return "" if str(error).strip() else "a ParseError without a message"
    except Exception as error:  # noqa: BLE001 - the rule is that only ParseError is raised
        return f"it raised {error!r}"
    return ""


def test_is_a_parser(parser: Parser) -> None:
    """The entry point names a subclass of `Parser` whose suffixes begin with a dot.

    When this fails: the class lacks `sniff` or `parse`, or a suffix is written without its dot.
    """
    assert isinstance(parser, Parser)
    assert all(suffix.startswith(".") for suffix in parser.suffixes), parser.suffixes


@pytest.mark.parametrize("kind", _OTHERS)
def test_sniff_refuses_other_formats(parser: Parser, kind: str) -> None:
    """`sniff` says False to the beginnings of other files.

    When this fails: it takes too little for a sign of the format. Say True only when the bytes are surely of it.
    """
    assert parser.sniff(_OTHERS[kind]) is False


@_bytes
@given(head=st.binary(max_size=4096))
def test_sniff_takes_any_bytes(parser: Parser, head: bytes) -> None:
    """`sniff` answers True or False whatever the bytes are.

    When this fails: it decodes or indexes bytes that need not be there.
    """
    assert parser.sniff(head) in (True, False)


def test_sniff_knows_its_own(parser: Parser, files: Sequence[Path]) -> None:
    """`sniff` says True to the fixtures offered for the format.

    When this fails: files of the format that have another suffix will not be recognised.
    """
    assert [str(path) for path in files if not parser.sniff(path.read_bytes()[:4096])] == []


@_bytes
@given(content=st.binary(max_size=300))
def test_random_bytes_are_a_parse_error(
    parser: Parser, content: bytes, registry: Registry, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A file of random bytes is a ParseError with a message (or happens to be a sound network).

    When this fails: an exception of the format's library gets through. Catch it where the file is decoded and raise
    ParseError from it, with the position.
    """
    path = tmp_path_factory.mktemp("random") / f"model{next(iter(parser.suffixes), '')}"
    path.write_bytes(content)
    assert not (why := _parse(parser, path, registry)), why


def test_truncated_files_are_a_parse_error(
    parser: Parser, files: Sequence[Path], registry: Registry, tmp_path: Path
) -> None:
    """A fixture cut short at any of twenty places is a ParseError (or happens to be a sound network).

    When this fails: a length is trusted before it is compared with what is left.
    """
    for path in files:
        content = path.read_bytes()
        for part in range(20):
            cut = tmp_path / path.name
            cut.write_bytes(content[: len(content) * part // 20])
            assert not (why := _parse(parser, cut, registry)), f"{path.name}, the first {part} of 20 parts: {why}"


def test_missing_file_is_a_parse_error(parser: Parser, registry: Registry, tmp_path: Path) -> None:
    """A file that does not exist, and a folder, are a ParseError that names it.

    When this fails: OSError gets through. Raise ParseError from it with the path.
    """
    for path in (tmp_path / "missing.model", tmp_path):
        with pytest.raises(ParseError, match=path.name):
            parser.parse(path, Network(registry=registry))
