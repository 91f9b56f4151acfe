"""A bare root filesystem is told how the network and pip's index are reached, and nothing else of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import pristine


def test_only_what_reaches_the_network_goes_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.example/simple")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:3128")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("PGPASSWORD", "secret")
    found = pristine.environment()
    assert found["PIP_INDEX_URL"] == "https://index.example/simple"
    assert found["https_proxy"] == "http://127.0.0.1:3128"
    assert "secret" not in found.values()
    assert found["SCANNERDB_REQUIRE_ALL"] == "1"


def test_an_index_of_files_is_found_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "index" / "simple").mkdir(parents=True)
    (tmp_path / "wheels").mkdir()
    monkeypatch.setattr(pristine, "PIP_FILES", {})
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"file://{tmp_path}/index/simple https://index.example/simple")
    monkeypatch.setenv("PIP_FIND_LINKS", f"{tmp_path}/wheels")
    root = tmp_path / "root"
    bound = pristine.local_paths(root)
    for name in ("index", "wheels"):  # the files of an index lie beside its pages
        assert str(tmp_path / name) in bound
        assert (root / f"{tmp_path}/{name}"[1:]).is_dir()
