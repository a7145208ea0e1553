"""`python -m pybehave` is the command `pybehave`."""

from pybehave.cli import main

if __name__ == "__main__":
    main(prog_name="pybehave")
