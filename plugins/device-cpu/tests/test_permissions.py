"""Permission to use tile registers is asked for where code needs it, and a refusal is an error that says so."""

from __future__ import annotations

import pytest
from tenonrt.contracts import ExecutionError
from tenonrt_device_cpu import permissions


def test_code_without_tiles_asks_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(permissions, "_request_tiles", lambda: pytest.fail("asked"))
    permissions.permit(("avx512f", "avx512_bf16"))


def test_a_refusal_names_the_system_s_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(permissions, "_request_tiles", lambda: 95)
    with pytest.raises(ExecutionError, match=r"AMX.*not supported"):
        permissions.permit(("amx_tile",))


def test_other_systems_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    permissions._request_tiles.cache_clear()
    monkeypatch.setattr(permissions.platform, "machine", lambda: "aarch64")
    try:
        with pytest.raises(ExecutionError, match="AMX"):
            permissions.permit(("amx_bf16",))
    finally:
        permissions._request_tiles.cache_clear()
