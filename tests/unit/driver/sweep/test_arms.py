"""How settings with several values become arms."""

import pytest

from recsys_mtl.config import ConfigError
from recsys_mtl.driver.sweep.arms import Arm, grid


def test_each_value_is_an_arm_named_by_the_last_part_of_its_setting() -> None:
    arms, fixed = grid(["method.alpha=-3, -1.5,0"])
    assert arms == [
        Arm("alpha=-3", ("method.alpha=-3",)),
        Arm("alpha=-1.5", ("method.alpha=-1.5",)),
        Arm("alpha=0", ("method.alpha=0",)),
    ]
    assert fixed == ()


def test_several_settings_make_their_product_and_single_values_hold_for_all() -> None:
    arms, fixed = grid(["a.x=1,2", "training.epochs=3", "b.x=p,q", "c.z=5,6"])
    assert fixed == ("training.epochs=3",)
    assert len(arms) == 8
    assert arms[0].name == "a.x=1, b.x=p, z=5", "x alone would name two settings"
    assert arms[1].overrides == ("a.x=1", "training.epochs=3", "b.x=p", "c.z=6")
    assert arms[-1].overrides == ("a.x=2", "training.epochs=3", "b.x=q", "c.z=6")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("[64, 32],[128]", ["[64, 32]", "[128]"]),
        ("[64, 32]", ["[64, 32]"]),
        ("'a,b',\"c,d\"", ["'a,b'", '"c,d"']),
        ("{kind: sgd, learning_rate: 0.1},{kind: adam}", 2 * [...]),
        ("s3://logs/*.parquet,/data/é", ["s3://logs/*.parquet", "/data/é"]),
        ("null,1e-3", ["null", "1e-3"]),
    ],
)
def test_values_are_cut_at_the_commas_of_yaml(text: str, values: list[str]) -> None:
    arms, _ = grid([f"a.b={text}"])
    assert len(arms) == len(values)
    if ... not in values:
        assert [arm.overrides for arm in arms] == [(f"a.b={value}",) for value in values]


def test_a_section_is_named_by_its_kind_and_settings() -> None:
    arms, _ = grid(["method={kind: uniform},{kind: gradops, alpha: -1}"])
    assert [arm.name for arm in arms] == ["uniform", "gradops alpha=-1"]


def test_without_a_setting_that_varies_there_is_one_arm() -> None:
    assert grid(["a.b=1"]) == ([Arm("as given", ("a.b=1",))], ("a.b=1",))


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        (["method.alpha="], "--set method.alpha=: has no value; give one or more"),
        (["method.alpha=1,,2"], "'1,,2' is no list of YAML values; separate values by single"),
        (["method.alpha=1],[2"], "is no list of YAML values"),
        (["data.train=part-[01].parquet"], "is no list of YAML values"),
        (["method.alpha=1,2,1"], "the value 1 stands twice; keep one"),
        (["method.alpha=1", "method.alpha=2"], "--set method.alpha stands twice; write all"),
        (["method.alpha"], "--set method.alpha: write it as a.b=value"),
        (["=1,2"], "--set =1,2: write it as a.b=value"),
    ],
)
def test_what_cannot_be_arms_is_refused_with_the_way_to_write_it(
    sets: list[str], says: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        grid(sets)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
