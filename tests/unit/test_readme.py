"""What the README shows runs as it stands there."""

import re
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def test_the_training_loop_of_the_readme_learns_both_tasks() -> None:
    examples = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    (example,) = (code for code in examples if "import gradops" in code)
    names: dict[str, object] = {}
    exec(example, names)
    losses = names["losses"]
    # Both targets have a variance of at least 1.
    assert max(losses.tolist()) < 0.3  # type: ignore[attr-defined]


def test_every_file_of_the_readme_s_tree_is_there() -> None:
    tree = re.search(r"```\nrecsys_mtl/ .*?```", README.read_text(), flags=re.DOTALL)
    assert tree is not None
    names = re.findall(r"^( *)([\w.]+/?) ", tree[0], flags=re.MULTILINE)
    folder = README.parent
    for indent, name in names:
        path = folder / "recsys_mtl" / name if indent else folder / name
        assert path.exists(), path
