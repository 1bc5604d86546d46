"""The examples work as they are written."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from flows import champion, cli
from mnist_pipeline.config import ROOT


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_digits_example_gives_commands_that_parse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flows on such folders are tested in flows/test_own_data.py; here, that the example's command lines are right."""
    digits = example("digits")
    commands: list[list[str]] = []
    asked: list[Path] = []
    monkeypatch.setattr(digits, "run", lambda *words: commands.append([*map(str, words)]))
    monkeypatch.setattr(digits, "serve_and_ask", asked.append)
    digits.main(tmp_path)
    parsers: dict[str, Callable[..., None]] = {
        "train_flow.py": cli.train,
        "retrain_flow.py": cli.retrain,
        "predict_flow.py": cli.predict,
    }
    scripts = [Path(script).name for script, *_ in commands]
    assert scripts == ["train_flow.py", "retrain_flow.py", "champion.py", "predict_flow.py"]
    for script, (_, *options) in zip(scripts, commands, strict=True):
        if script in parsers:
            assert cli.parse(parsers[script], options)
        else:
            champion.app.parse_args(options)
    assert asked[0].is_file()


@pytest.mark.slow
def test_the_comparisons_example_writes_its_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    comparisons = example("comparisons")
    monkeypatch.setattr(comparisons, "RATES", {name: comparisons.RATES[name] for name in ("rmsprop", "adam")})
    comparisons.main(epochs=1, out=tmp_path)
    page = (tmp_path / "comparisons.md").read_text()
    assert "| 784-10 | adam |" in page
    assert "| 784-100-100-10 | rmsprop |" in page
    assert {file.name for file in tmp_path.glob("*.png")} == {"comparisons-loss.png", "comparisons-xor.png"}
