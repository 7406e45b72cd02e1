"""Whether the run to begin from is another one, however its folder is spelled."""

from pathlib import Path

import pytest

from recsys_mtl.driver.first_values import lies_in


@pytest.mark.parametrize(
    "spelled",
    [
        "{0}/runs/first",
        "{0}/runs/first/",
        "{0}/runs/../runs/first",
        "file://{0}/runs/first",
        "file://{0}/runs/first/",
        "local://{0}/runs/first",
        "{0}/link",
        "file://{0}/link/",
        "{0}/runs/first/kept",
    ],
)
def test_a_run_is_found_to_be_itself_under_any_spelling(tmp_path: Path, spelled: str) -> None:
    (tmp_path / "runs" / "first" / "kept").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "runs" / "first")
    assert lies_in(spelled.format(tmp_path), f"{tmp_path}/runs/first")
    assert lies_in(spelled.format(tmp_path), f"file://{tmp_path}/link")


@pytest.mark.parametrize(
    ("url", "folder"),
    [
        ("{0}/runs/first2", "{0}/runs/first"),
        ("{0}/runs", "{0}/runs/first"),
        ("memory://{0}/runs/first", "{0}/runs/first"),
        ("memory://runs/second", "memory://runs/first"),
    ],
)
def test_another_run_is_another_one(tmp_path: Path, url: str, folder: str) -> None:
    assert not lies_in(url.format(tmp_path), folder.format(tmp_path))


def test_an_object_store_has_one_place_for_one_url() -> None:
    assert lies_in("memory://runs/first/", "memory://runs/first")
