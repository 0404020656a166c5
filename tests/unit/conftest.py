"""How hypothesis runs here; `--hypothesis-profile=default` searches for what these do not find."""

from hypothesis import HealthCheck, settings

# A busy computer is no reason to fail, and a run finds what the run before found
settings.register_profile(
    "unit",
    max_examples=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("unit")
