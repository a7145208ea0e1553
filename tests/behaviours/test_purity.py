"""Behaviours can be imported and used where the compiled modules are missing."""

import subprocess
import sys

PROGRAM = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("pybehave._uring"):
            raise ImportError(name)

sys.meta_path.insert(0, Missing())
from pybehave.behaviours import application, child_requests, restart
from pybehave.behaviours.supervisor import Supervisor
print(Supervisor("one_for_one", []).dump())
"""


def test_behaviours_import_without_the_compiled_modules() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "root  one_for_one  1 in 5 s\n"
