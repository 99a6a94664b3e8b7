"""The quick way to import bitsandbytes leaves torch as it was."""

import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

CODE = """
import sys, torch
compiler = torch.compile
from worker.trainer.quick_import import import_bitsandbytes
if {broken}:
    sys.modules["bitsandbytes"] = None  # its import fails
try:
    import_bitsandbytes()
except ImportError:
    assert {broken}
assert torch.compile is compiler
assert "torch._inductor.compile_fx" not in sys.modules
"""


@pytest.mark.parametrize("broken", [False, True])
def test_the_compiler_is_put_back_and_was_not_loaded(broken: bool) -> None:
    code = CODE.format(broken=broken)
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY, timeout=120)
