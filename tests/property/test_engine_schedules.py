"""Thousands of random schedules on the pure engine, one step after the other."""

from hypothesis import HealthCheck, settings
from support.engine_schedules import EngineSchedules

TestEngineSchedules = EngineSchedules.TestCase
TestEngineSchedules.settings = settings(
    max_examples=300,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
