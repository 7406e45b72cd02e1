"""What each process of a run must not wait for: TorchRec takes seconds to import."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("process", "module", "unneeded"),
    [
        ("check", "recsys_mtl.cli, recsys_mtl.driver.log_summary", "torch"),
        ("the exporter", "recsys_mtl.exporter.actor", "torch"),
        ("Ray Train's controller", "recsys_mtl.driver.ray_train", "torchrec"),
        ("the driver", "recsys_mtl.driver.launch", "torchrec"),
        ("a local run", "recsys_mtl.driver.launch, recsys_mtl.driver.local_runner", "ray"),
        ("a reader of ids", "recsys_mtl.data.ids", "torch"),
        ("a reader of batches", "recsys_mtl.data.stream", "torchrec"),
        ("a server of a bundle", "recsys_mtl.serving.scorer", "torchrec, ray"),
        ("an export", "recsys_mtl.driver.export", "ray"),
    ],
)
def test_a_process_starts_without_what_it_does_not_need(
    process: str, module: str, unneeded: str
) -> None:
    program = f"import sys, {module}; print(*{unneeded.split(', ')} & sys.modules.keys())"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, "\n"), f"{process}: {found}"


def test_the_method_can_be_had_from_the_package_itself() -> None:
    import recsys_mtl
    from recsys_mtl.gradients import gradops

    assert recsys_mtl.gradops is gradops
    with pytest.raises(AttributeError, match="no attribute 'gradop'"):
        recsys_mtl.gradop  # noqa: B018
