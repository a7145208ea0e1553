"""Settings of every run. Fixtures live beside the tests that use them, helpers in builders.py."""

from hypothesis import settings

# A deadline judges the machine, not the code; the blob lets a failing example be run again.
settings.register_profile("pybehave", deadline=None, print_blob=True)
settings.load_profile("pybehave")
