"""Make a fresh copy of this project one of another name, in one commit: make start NAME=leaf-reader MODEL=leaves."""

import contextlib
import importlib.util
import keyword
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROJECT, PACKAGE, MODEL, VARIABLE = "mnist-pipeline", "mnist_pipeline", "mnist-mlp", "MNIST_PIPELINE"
USED_UP = ("tools/start.py", "tests/test_start.py", "tests/faults/test_start.py")  # once the project has its name
SHARED = ("Dockerfile", "prefect.yaml", "docs/scale.md", "docs/compose.yaml", ".env.example")  # `mnist`: a user, a pool
TAKEN = {"benchmarks", "docs", "examples", "flows", "mnist", "serving", "tasks", "tests", "tools"}
CHANGELOG = "# Changelog\n\n## [Unreleased]\n\nStarted from {PROJECT} {version}.\n"


def main(name: str = "", model: str = "") -> None:
    """Rename the project and its model, and commit that; exit with one line if that is not possible."""
    package, model = name.replace("-", "_"), model or f"{name}-mlp"
    check(name, model, package)
    try:
        rename(name, package, model)
    except BaseException as error:
        git("reset", "--quiet", "--hard")
        git("clean", "--quiet", "--force", "-d", "-x", package)
        match error:
            case subprocess.CalledProcessError():
                sys.exit(f"Nothing was renamed: {' '.join(error.cmd[:2])} failed: {error.stderr or error.output or ''}")
            case KeyboardInterrupt():
                sys.exit("Nothing was renamed: stopped")
        raise
    print(f"This is {name} now: its package is {package}, its model {model}. Next: make train, make test")


def rename(name: str, package: str, model: str) -> None:
    """Rename everything, and commit it."""
    names = {VARIABLE: package.upper(), PACKAGE: package, PROJECT: name, MODEL: model}
    for file in map(Path, git("ls-files", "-z").split("\0")[:-1]):
        if str(file) in USED_UP:
            (ROOT / file).unlink()
        elif (ROOT / file).is_file() and not (ROOT / file).is_symlink():
            rewrite(file, names)
    with contextlib.suppress(OSError):  # unless it holds something else
        (ROOT / "tools").rmdir()
    (ROOT / PACKAGE).rename(ROOT / package)
    forget(longest=max(len(name) - len(PROJECT), len(model) - len(MODEL)))
    for words in (
        ["check", "--quiet", "--fix", "--select", "I"],
        ["format", "--quiet"],
    ):  # another order, other lengths
        subprocess.run([str(Path(sys.executable).with_name("ruff")), *words], cwd=ROOT, check=True)
    git("add", "--all")
    git("commit", "--quiet", "--message", f"Start {name} from {PROJECT}")


def check(name: str, model: str, package: str) -> None:
    """Exit unless the names can be used, and there is a project to rename whose every change is committed."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or len(name) > 40 or {name, package} & TAKEN:
        sys.exit(
            f"NAME must be lower-case letters, digits and dashes, such as leaf-reader, and no folder here: {name!r}"
        )
    if keyword.iskeyword(package) or importlib.util.find_spec(package) or (ROOT / package).exists() or name == PROJECT:
        sys.exit(f"NAME must not be that of a Python module, or of what is here: {name!r}")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", model):
        sys.exit(f"MODEL must be letters, digits, . _ and -, such as leaves: {model!r}")
    if model == MODEL:
        sys.exit(f"MODEL must be another than this project's: {model!r}")
    if not (ROOT / PACKAGE).is_dir():
        sys.exit("This project has a name of its own already")
    if not shutil.which("git"):
        sys.exit("git is needed: install it")
    if not (ROOT / ".git").exists():
        sys.exit("This is not a git repository: git init && git add --all && git commit --message 'A copy', and again")
    if subprocess.run(["git", "var", "GIT_COMMITTER_IDENT"], cwd=ROOT, capture_output=True).returncode:
        sys.exit("git does not know who you are: git config user.name and user.email")
    if not subprocess.run(["git", "check-ignore", "--quiet", f"{package}/"], cwd=ROOT).returncode:
        sys.exit(f"NAME must not be what .gitignore leaves out: {name!r}")
    if changed := git("status", "--porcelain", "--untracked-files=all"):
        sys.exit(f"Commit or stash what was changed first: {changed.splitlines()[0][3:]}")


def rewrite(file: Path, names: dict[str, str]) -> None:
    """Replace the names in a text file. The dataset is called MNIST as before, and the licence names its authors."""
    try:
        before = text = (ROOT / file).read_bytes().decode()
    except UnicodeDecodeError:
        return
    if file.name == "LICENSE":
        names = {f"{PACKAGE}/": f"{names[PACKAGE]}/"}
    text = re.sub("|".join(map(re.escape, names)), lambda found: names[found[0]], text)
    if file.name != "LICENSE":
        package = names[PACKAGE]
        text = re.sub(r"(work-pool create |--pool )mnist\b", rf"\g<1>{package}", text)
        if str(file) in SHARED:
            text = re.sub(r"(?<![\w./-])mnist(?![\w.-])|(?<=//)mnist(?=:)", package, text)
    if text != before:
        (ROOT / file).write_text(text)


def forget(*, longest: int) -> None:
    """Take out what the original has and a new project has not: its versions, and how to start from it."""
    pyproject = (ROOT / "pyproject.toml").read_text()
    version = re.search(r'^version = "(.*)"', pyproject, re.MULTILINE)
    assert version
    (ROOT / "CHANGELOG.md").write_text(CHANGELOG.format(PROJECT=PROJECT, version=version[1]))
    if longest > 0:  # lines of text and comments that a longer name makes longer; code is broken anew
        limit = f"[tool.ruff.lint]\npycodestyle.max-line-length = {120 + 3 * longest}\n"
        pyproject = pyproject.replace("[tool.ruff.lint]\n", limit, 1)
    (ROOT / "pyproject.toml").write_text(pyproject)
    for file, passage in (
        ("Makefile", r"# A fresh copy as a project of another name.*?\n\n"),
        ("docs/starting.md", r"## Copy and rename\n.*?(?=^## )"),
        ("docs/architecture.md", r"^tools/start.py .*?\n"),
        ("docs/decisions.md", r"## Why a copy is renamed by a script\n.*?(?=^## |\Z)"),
    ):
        text = (ROOT / file).read_text()
        text = re.sub(passage, "", text, count=1, flags=re.DOTALL | re.MULTILINE).replace(
            " start train test", " train test"
        )
        (ROOT / file).write_text(text)


def git(*words: str) -> str:
    """Run git here and return what it prints."""
    return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main(*sys.argv[1:3])
