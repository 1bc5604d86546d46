"""The C++ compiler of `--compile` fails."""

import os
import subprocess
import sys
from pathlib import Path

from mnist_pipeline.config import ROOT
from tests.training.test_compiled import COMPILER

FAILING_COMPILER = """#!/bin/sh
[ "$1" = --version ] && exec c++ --version
echo 'fatal error: when writing output: No space left on device' >&2
exit 1
"""
COMPILED = """
import torch
from mnist_pipeline.config import TrainConfig
from mnist_pipeline.training.loop import fit
from mnist_pipeline.training.model import MLP
mlp = MLP.from_config(config := TrainConfig(hidden=(), compile=True), inputs=64, outputs=10)
list(fit(mlp, torch.zeros(64, 8, 8), torch.zeros(64, dtype=torch.int64), config))
"""


@COMPILER
def test_a_compiler_that_fails_is_reported_with_its_reason(tmp_path: Path) -> None:
    compiler = tmp_path / "g++"
    compiler.write_text(FAILING_COMPILER)
    compiler.chmod(0o755)
    own = {"CXX": str(compiler), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", COMPILED], env=os.environ | own, cwd=ROOT, capture_output=True, text=True
    )
    assert result.stderr.splitlines()[-1] == (
        "mnist_pipeline.config.FieldError: compile cannot be used, as compiling failed: "
        "fatal error: when writing output: No space left on device"
    )
