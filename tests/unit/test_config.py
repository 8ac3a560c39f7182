# SPDX-License-Identifier: Apache-2.0
"""Settings from files and flags: what was there, what was wanted, and where."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest

from kedge import config
from kedge.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Inner:
    """A section.

    Attributes:
        depth: how deep.
    """

    depth: int = 1


@dataclass(frozen=True, slots=True)
class Settings:
    """All kinds of settings.

    Attributes:
        listen: where, at 100% of
            the time.
        lease_seconds: how long.
        names: which.
        enabled: whether.
        mode: how.
        data_dir: where to.
        inner: a section.
    """

    listen: str = "127.0.0.1:1"
    lease_seconds: Annotated[int, msgspec.Meta(ge=1, le=60)] = 10
    names: tuple[str, ...] = ()
    enabled: bool = True
    mode: Literal["fast", "slow"] = "fast"
    data_dir: Path = Path("data")
    inner: Inner = field(default_factory=Inner)
    ratio: float | None = None


def write(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "settings.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_keys_may_be_camel_case_or_snake_case(tmp_path):
    path = write(tmp_path, "leaseSeconds: 7\ndata_dir: /x\nnames: [a, b]\ninner: {depth: 3}\n")
    assert config.load(Settings, path, {}) == Settings(
        lease_seconds=7, data_dir=Path("/x"), names=("a", "b"), inner=Inner(3)
    )


def test_a_flag_wins_over_the_file(tmp_path):
    path = write(tmp_path, "leaseSeconds: 7\nmode: slow\n")
    loaded = config.load(Settings, path, {"lease_seconds": "9", "mode": None})
    assert (loaded.lease_seconds, loaded.mode) == (9, "slow")


def test_an_empty_file_gives_the_defaults(tmp_path):
    assert config.load(Settings, write(tmp_path, ""), {}) == Settings()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "leaseSeconds: soon",
            "leaseSeconds: got: 'soon', wanted: a whole number, at least 1, at most 60",
        ),
        ("leaseSeconds: 0", "leaseSeconds: got: 0, wanted: a whole number, at least 1"),
        ("leaseSeconds: [1]", "leaseSeconds: got: [1], wanted: a whole number"),
        ("listen: 5", "listen: got: 5, wanted: text"),
        ("names: a", "names: got: 'a', wanted: a list, each text"),
        ("names: [1]", "names: got: [1], wanted: a list, each text"),
        ("enabled: often", "enabled: got: 'often', wanted: true or false"),
        ("mode: medium", "mode: got: 'medium', wanted: one of fast, slow"),
        ("ratio: much", "ratio: got: 'much', wanted: a number"),
        ("inner: 3", "inner: got: 3, wanted: a mapping of settings"),
        ("inner: {depth: x}", "inner.depth: got: 'x', wanted: a whole number"),
        ("lisen: x", "lisen: unknown setting, got: 'x', wanted one of: listen, leaseSeconds"),
        ("leaseSeconds: 1\nlease_seconds: 2", "given twice, as lease_seconds and leaseSeconds"),
        ("- a", "wanted a mapping of settings, got: ['a']"),
        ("a: [", "not YAML at line 1, column 5"),
        ("a: b: c", "not YAML at line 1, column 5: mapping values are not allowed here"),
        ("a: !!python/object/apply:os.system [x]", "not YAML at line 1"),
        (b"a: \xff", "not UTF-8 text: byte 3"),
        ("[" * 5000, "not YAML"),
        ("a" * (config.MAX_CONFIG_BYTES + 1), "larger than 1048576 bytes"),
    ],
)
def test_what_does_not_fit_is_named_with_file_key_and_what_was_wanted(tmp_path, text, says):
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        config.load(Settings, path, {})
    assert str(caught.value).startswith(f"{path}: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read: No such file or directory"):
        config.load(Settings, tmp_path / "none.yaml", {})


def test_a_wrong_flag_is_named_as_a_flag():
    with pytest.raises(ConfigError, match="--lease-seconds: got: 'x', wanted: a whole number"):
        config.load(Settings, None, {"lease_seconds": "x"})


def test_flags_come_from_the_fields_and_help_from_the_docstring():
    parser = config.parser(Settings, "prog", "does")
    help_text = " ".join(parser.format_help().split())
    assert "--lease-seconds N how long. (default: 10)" in help_text
    assert "where, at 100% of the time." in help_text
    assert "--inner" not in help_text
    parsed = parser.parse_args(["--names", "a", "b", "--no-enabled", "--lease-seconds", "3"])
    loaded = config.from_flags(Settings, parsed)
    assert loaded == Settings(names=("a", "b"), enabled=False, lease_seconds=3)


@dataclass(frozen=True, slots=True)
class Logging:
    """A role's settings.

    Attributes:
        log_level: how loud.
    """

    log_level: str = "INFO"


def test_the_log_level_comes_from_the_environment_when_nothing_else_says_it(monkeypatch):
    monkeypatch.setenv(config.ENV_LOG_LEVEL, "DEBUG")
    assert config.load(Logging, None, {}).log_level == "DEBUG"
    assert config.load(Logging, None, {"log_level": "ERROR"}).log_level == "ERROR"
    assert config.load(Settings, None, {}) == Settings()
