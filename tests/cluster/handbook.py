"""The commands of docs/scale.md, as they stand there."""

import re
import shlex

from mnist_pipeline.config import ROOT


def block(name: str) -> tuple[dict[str, str], list[list[str]]]:
    """Return what the block that begins with the comment `name` exports, and the words of its commands."""
    blocks = re.findall(r"```console\n# (\w+)\n(.*?)```", (ROOT / "docs" / "scale.md").read_text(), re.DOTALL)
    lines = dict(blocks)[name].replace("\\\n", " ").splitlines()
    exports: dict[str, str] = {}
    commands: list[list[str]] = []
    for words in (shlex.split(line, comments=True) for line in lines):
        if words[0] == "export":
            exports |= dict(word.split("=", 1) for word in words[1:])
        else:
            commands.append(words)
    return exports, commands
