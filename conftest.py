"""Settings of every test: hypothesis draws the same examples on every machine and in every run."""

from hypothesis import HealthCheck, settings

# No example database and no deadline: a run depends on the code alone, not on an earlier run or
# on how busy the machine is.
settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("repeatable")
