"""The list of settings: complete, with what each may be, and found by its path."""

import pytest

from recsys_mtl.config import RunConfig, Section, UserError
from recsys_mtl.config.settings import Setting, all_settings, settings_below

KINDS = (
    "keys of one kind: uniform, gradops, gradops_static, dw, pcgrad, pcgrad_dw, gradvac, mgda, "
    "cagrad, imtl_g, upgrad, gradnorm"
)


def one(place: str, kind: str = "") -> Setting:
    found = [s for s in settings_below(place) if ".".join(s.path) == place and s.kind == kind]
    assert len(found) == 1
    return found[0]


def test_every_field_of_every_section_is_listed_with_its_meaning() -> None:
    listed = {setting.path[-1] for setting in all_settings()}
    sections = [RunConfig, *_sections_below(Section)]
    fields = {name for section in sections for name in section.yaml_keys()}
    assert fields - listed <= {"kind"}
    assert all(s.meaning for s in all_settings() if "NAME" not in s.path)


def _sections_below(section: type[Section]) -> list[type[Section]]:
    below = [c for c in section.__subclasses__() if c.__module__.startswith("recsys_mtl.config.")]
    return [found for c in below for found in (c, *_sections_below(c))]


@pytest.mark.parametrize(
    ("place", "kind", "allowed", "default"),
    [
        ("training.global_batch_size", "", "whole number from 1", "needed"),
        ("training.epochs", "", "whole number from 1, or null", "null"),
        ("model.dropout", "", "number from 0, below 1", "0.0"),
        ("cluster.device", "", "auto | cpu | cuda", "auto"),
        ("metrics.port", "", "whole number from 0 to 65535, or text", "0"),
        ("metrics.bind_address", "", "text", "0.0.0.0"),
        (
            "model.bottom_hidden_sizes",
            "",
            "list, at least one, each a whole number from 1",
            "[1024, 512, 256, 128]",
        ),
        ("method", "", KINDS, "needed"),
        ("model.body", "", "keys of one kind: shared_bottom, mmoe, ple", "shared_bottom"),
        ("method.alpha", "gradops", "number", "0.0"),
        ("method.alpha", "gradnorm", "number from 0", "1.5"),
        ("optimizer.tables", "", "keys", ""),
        ("optimizer.tables.kind", "", "rowwise_adagrad | adagrad | sgd", "rowwise_adagrad"),
        ("data.features", "", "names, each with its value, at least one", "needed"),
    ],
)
def test_a_setting_says_what_it_may_be(place: str, kind: str, allowed: str, default: str) -> None:
    setting = one(place, kind)
    assert (setting.allowed, setting.default) == (allowed, default)


def test_a_name_of_the_users_own_finds_what_every_name_has() -> None:
    assert settings_below("data.features.price.std") == settings_below("data.features.NAME.std")


def test_a_section_comes_with_all_that_it_holds() -> None:
    paths = [".".join(setting.path) for setting in settings_below("optimizer")]
    assert paths[:2] == ["optimizer", "optimizer.dense"]
    assert paths.count("optimizer.dense.learning_rate") == 3  # of adam, adamw and sgd
    assert all(path.startswith("optimizer") for path in paths)


@pytest.mark.parametrize(
    ("place", "hint"),
    [
        ("epochs", "did you mean training.epochs?"),
        ("training.epocs", "did you mean training.epochs?"),
        ("alpha", "did you mean method.alpha?"),
        ("learning_rate", " or optimizer.dense.learning_rate or "),
        ("xyz", "the sections are run, data, model, method,"),
        ("", "the sections are run"),
    ],
)
def test_an_unknown_setting_is_refused_with_those_alike(place: str, hint: str) -> None:
    with pytest.raises(UserError) as refused:
        settings_below(place)
    assert f"there is no setting {place!r}; " in str(refused.value)
    assert hint in str(refused.value)
