"""The running tree of supervisors: plans of `pybehave.behaviours` carried out, child by child."""
