"""A bundle that is damaged, incomplete or of another version is refused, with one sentence."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recsys_mtl.config import UserError
from recsys_mtl.serving import Scorer
from recsys_mtl.serving.bundle import BundleError, verify_checksums, write_checksums
from tests.unit.data.click_logs import fresh_generator
from tests.unit.serving.conftest import Served


@pytest.fixture
def bundle(served: Served, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(served.folder, tmp_path / "bundle"))


def files_of(bundle: Path) -> list[Path]:
    return sorted(file for file in bundle.rglob("*") if file.is_file())


def refusal(bundle: Path, **options: bool) -> str:
    with pytest.raises(BundleError) as caught:
        Scorer.load(bundle, **options)
    assert isinstance(caught.value, UserError)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_bundle_has_the_files_that_its_description_names(bundle: Path) -> None:
    names = {file.relative_to(bundle).as_posix() for file in files_of(bundle)}
    tables = {f"tables/{name}.npy" for name in ("user", "item", "city", "tags", "never", "level")}
    rest = {"features.json", "model.pt2", "examples.parquet", "checksums.sha256"}
    assert names == tables | rest


def test_sha256sum_reads_the_checksums(bundle: Path) -> None:
    command = ["sha256sum", "--check", "--strict", "--quiet", "checksums.sha256"]
    subprocess.run(command, cwd=bundle, check=True)


def test_a_flipped_bit_in_any_file_is_refused(bundle: Path) -> None:
    rng = fresh_generator()
    for file in files_of(bundle):
        sound = file.read_bytes()
        for place in (0, len(sound) - 1, *rng.integers(0, len(sound), 3).tolist()):
            damaged = bytearray(sound)
            damaged[place] ^= 1 << int(rng.integers(0, 8))
            file.write_bytes(damaged)
            said = refusal(bundle)
            assert file.name in said or "checksums.sha256" in said, (file, place, said)
        file.write_bytes(sound)
    Scorer.load(bundle)


def test_no_bit_of_the_checksums_themselves_goes_unnoticed(bundle: Path) -> None:
    file = bundle / "checksums.sha256"
    sound = file.read_bytes()
    for place in range(len(sound)):
        for bit in (0, 5):  # 5 changes a letter's case
            damaged = bytearray(sound)
            damaged[place] ^= 1 << bit
            file.write_bytes(damaged)
            with pytest.raises(BundleError):
                verify_checksums(bundle)


def test_a_missing_file_is_named(bundle: Path) -> None:
    for file in files_of(bundle):
        sound = file.read_bytes()
        file.unlink()
        assert file.name in refusal(bundle)
        file.write_bytes(sound)


def test_without_verification_a_table_of_another_shape_or_no_table_is_refused(
    bundle: Path,
) -> None:
    shutil.copy(bundle / "tables" / "city.npy", bundle / "tables" / "user.npy")
    assert "user.npy holds float32 (61, 4), and not float32 (41, 8)" in refusal(
        bundle, verify=False
    )
    (bundle / "tables" / "user.npy").write_bytes(b"nothing")
    assert "user.npy cannot be read as a table" in refusal(bundle, verify=False)


def test_without_verification_a_damaged_network_is_refused(bundle: Path) -> None:
    (bundle / "model.pt2").write_bytes(b"nothing")
    assert "model.pt2, written by torch 2." in refusal(bundle, verify=False)


def test_a_folder_without_a_bundle_is_refused(tmp_path: Path) -> None:
    assert "holds no bundle (features.json: No such file" in refusal(tmp_path)
    assert "holds no bundle" in refusal(tmp_path / "nowhere")


def set_version(tree: dict[str, Any]) -> None:
    tree["bundle_version"] = 9


def set_encoding(tree: dict[str, Any]) -> None:
    tree["id_encoding"]["version"] = 1


def add_a_key(tree: dict[str, Any]) -> None:
    tree["later"] = 1


def move_a_vector(tree: dict[str, Any]) -> None:
    tree["id_encoding"]["golden_vectors"][12]["row"] += 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (set_version, "a bundle of version 9, and this recsys-mtl reads version 1"),
        (set_encoding, "ids encoded by version 1, and this recsys-mtl encodes by version 2"),
        (add_a_key, "does not describe a bundle"),
        (move_a_vector, "and this environment row"),
    ],
)
def test_another_version_is_refused_though_it_is_whole(
    bundle: Path, change: Callable[[dict[str, Any]], None], says: str
) -> None:
    tree = json.loads((bundle / "features.json").read_text())
    change(tree)
    (bundle / "features.json").write_text(json.dumps(tree))
    (bundle / "checksums.sha256").unlink()
    write_checksums(bundle)
    assert says in refusal(bundle)
