"""Equal code is compiled once, by whichever process comes first."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from tenonrt_kernel_llvm import assembly
from tenonrt_kernel_llvm.emitter import FLOAT, PTR, Function
from tenonrt_kernel_llvm.object_folder import ObjectFolder
from tenonrt_kernel_llvm.objects import FOLDER, KnownObjects
from tenonrt_kernel_llvm.target import AVX2, NEON, Target

llvm = pytest.importorskip("llvmlite.binding")


class Compiler:
    """Counts what it is asked for."""

    def __init__(self, code: bytes = b"code") -> None:
        self.code = code
        self.calls = 0

    def __call__(self) -> bytes:
        self.calls += 1
        return self.code


def text(target: Target, factor: float) -> str:
    fn = Function(target, "kernel", [(PTR, "p")])
    (pointer,) = fn.parameters
    fn.store(fn.load(FLOAT, pointer) * factor, pointer)
    fn.ret()
    return assembly.module_text(target, [fn])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FOLDER, str(tmp_path / "objects"))
    return tmp_path / "objects"


def test_one_process_compiles_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER, raising=False)
    known, compiler = KnownObjects(), Compiler()
    assert [known.get(("a", "b"), compiler), known.get(("a", "b"), compiler)] == [b"code"] * 2
    assert compiler.calls == 1
    known.get(("ab", ""), compiler)
    assert compiler.calls == 2, "other parts that read alike when joined"


def test_what_was_used_last_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER, raising=False)
    known, compiler = KnownObjects(), Compiler()
    for number in range(200):
        known.get(("often",), compiler)
        known.get((str(number),), compiler)
    assert compiler.calls == 201
    known.get(("0",), compiler)
    assert compiler.calls == 202, "the first of them was left out, or memory would only grow"


def test_processes_share_a_folder(folder: Path) -> None:
    first, second = Compiler(), Compiler(b"never asked for")
    assert KnownObjects().get(("part",), first) == KnownObjects().get(("part",), second) == b"code"
    assert (first.calls, second.calls) == (1, 0)
    assert [path.stat().st_mode & 0o077 for path in (folder, *folder.iterdir())] == [0, 0], "others cannot write code"


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b"", lambda b: b[:-1] + bytes([b[-1] ^ 1])])
def test_a_damaged_file_is_made_again(folder: Path, damage: object) -> None:
    KnownObjects().get(("part",), Compiler())
    (path,) = folder.iterdir()
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    compiler = Compiler()
    assert KnownObjects().get(("part",), compiler) == b"code"
    assert KnownObjects().get(("part",), compiler) == b"code"
    assert compiler.calls == 1


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_text("no folder")
    monkeypatch.setenv(FOLDER, str(file))
    with pytest.raises(OSError, match=f"{FOLDER} names '{file}', which cannot keep object files"):
        KnownObjects().get(("part",), Compiler())


def keys(folder: Path) -> list[int]:
    return sorted(bytes.fromhex(path.name)[0] for path in folder.iterdir())


def filled(path: Path, count: int, most_bytes: int) -> ObjectFolder:
    """Objects of 80 bytes and a checksum of 20, used one after another, the last one an hour ago."""
    folder = ObjectFolder(path, most_bytes)
    for number in range(count):
        folder.get(bytes([number]) * 20, Compiler(bytes(80)))
        moment = path.stat().st_mtime - 3600 - count + number
        os.utime(path / (bytes([number]) * 20).hex(), (moment, moment))
    return folder


def test_a_folder_keeps_what_was_used_last(tmp_path: Path) -> None:
    filled(tmp_path / "full", 10, 1000).shrink()
    assert keys(tmp_path / "full") == list(range(10)), "as many bytes as may be"
    filled(tmp_path / "more", 12, 1 << 20)
    folder = ObjectFolder(tmp_path / "more", 1000)
    folder.get(bytes(20), Compiler(b"never asked for"))  # the first one is used again
    folder.shrink()
    assert keys(folder.path) == [0, *range(5, 12)], "an eighth is left free"


def test_the_first_file_that_a_process_writes_shrinks_the_folder(tmp_path: Path) -> None:
    filled(tmp_path, 12, 1 << 20)
    ObjectFolder(tmp_path, 1000).get(b"\xff" * 20, Compiler(bytes(80)))
    assert keys(tmp_path) == [*range(5, 12), 255]


def test_removed_files_are_made_again_and_other_files_stay(tmp_path: Path) -> None:
    folder = filled(tmp_path, 12, 1000)
    (tmp_path / "notes.txt").write_bytes(bytes(5000))
    moment = tmp_path.stat().st_mtime
    for age in (60, 7200):  # what a process is writing, and what one left that was killed
        (tmp_path / f"{bytes(20).hex()}-{age}").write_bytes(bytes(5000))
        os.utime(tmp_path / f"{bytes(20).hex()}-{age}", (moment - age, moment - age))
    folder.shrink()
    others = {path.name for path in tmp_path.iterdir() if len(path.name) != 40}
    assert others == {"notes.txt", f"{bytes(20).hex()}-60"}
    compiler = Compiler(bytes(80))
    assert folder.get(bytes(20), compiler) == bytes(80)
    assert compiler.calls == 1


def test_processes_may_remove_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, usual = filled(tmp_path, 12, 1000), ObjectFolder._files

    def removed_meanwhile(self: ObjectFolder) -> list[tuple[float, int, str]]:
        found = sorted(usual(self))
        Path(found[0][2]).unlink()
        return found

    monkeypatch.setattr(ObjectFolder, "_files", removed_meanwhile)
    folder.shrink()
    assert keys(tmp_path) == list(range(4, 12))


def test_what_code_depends_on_tells_it_apart(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "_objects", KnownObjects())
    given = [(AVX2, text(AVX2, 2.0)), (AVX2, text(AVX2, 3.0)), (NEON, text(NEON, 2.0))]
    given.append((replace(AVX2, cpu="x86-64-v4"), text(AVX2, 2.0)))
    given.append((replace(AVX2, extensions="+avxvnni"), text(AVX2, 2.0)))
    made = [assembly.object_file(*pair) for pair in given]
    assert len(list(folder.iterdir())) == len(given)
    monkeypatch.setattr(assembly, "_objects", KnownObjects())
    assert [assembly.object_file(*pair) for pair in given] == made
    module = llvm.parse_assembly(given[0][1])
    assert assembly._machine(AVX2).emit_object(module) == made[0], "what the compiler says itself"
